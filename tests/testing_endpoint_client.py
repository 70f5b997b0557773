"""A program that answers drawn records by a server and writes each answer as it comes, to be ended in the middle.

`python tests/testing_endpoint_client.py CHECKPOINT FOLDER URL`: FOLDER has pictures `N.png`; what `answers.txt` in it
holds is not asked again.
"""

from __future__ import annotations

import sys
from pathlib import Path

from vlm_r1.models import load_adapter
from vlm_r1.rollouts.env import Env
from vlm_r1.rollouts.remote import RemoteModel
from vlm_r1.sampling import greedy
from vlm_r1.sampling.endpoint import Endpoint
from vlm_r1.tasks.templates import make_templates
from vlm_r1.types import Record


def main(checkpoint: str, folder: Path, url: str) -> None:
    answers, count = folder / "answers.txt", len(list(folder.glob("*.png")))
    names = [str(folder / f"{n}.png") for n in range(count)]
    records = [Record(str(n), "rec", f"<image>item {n}", (name,), [1, 2, 3, 4]) for n, name in enumerate(names)]
    known = answers.read_text(encoding="utf-8").splitlines() if answers.exists() else []
    done = {int(line.split(" ")[0]) for line in known}
    env = Env(load_adapter(checkpoint), make_templates("r1"), {"accuracy": 1.0})
    remote = RemoteModel(env, Endpoint(url, "tiny", concurrency=2), greedy(32))
    with answers.open("a", encoding="utf-8") as file:
        for place, group in remote.answer(records, [n for n in range(count) if n not in done]):
            file.write(f"{place} {group.rollouts[0].completion.text}\n")
            file.flush()


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), sys.argv[3])
