"""The policy sharded by FSDP2 over two processes computes what the whole one computes, packed.

This file is the test and, run as a program by torchrun, each of its two processes.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import torch
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor

from vlm_r1.config.schema import ModelSection
from vlm_r1.data.images import load_image
from vlm_r1.models import load_adapter, load_model
from vlm_r1.policy.logprobs import CompletionBatch, Policy
from vlm_r1.types import Prompt

FILE = Path(__file__)
TOLERANCE = 2e-6  # transformers' norms compute in float32 whatever the type of the weights


def test_sharded_equals_whole(tiny_checkpoint, picture) -> None:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    command += [str(FILE), str(tiny_checkpoint), picture(56, 56)]
    environment = {**os.environ, "PYTHONPATH": str(FILE.parents[1]), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("sharded equals whole") == 2 * 2


def main(checkpoint: str, image: str) -> None:
    """Compare in one process of two, without and with gradient checkpointing."""
    torch.distributed.init_process_group("gloo")
    for checkpointing in (False, True):
        compare(ModelSection(path=checkpoint, dtype="float64", gradient_checkpointing=checkpointing), image)
        sys.stdout.write("sharded equals whole\n")
    torch.distributed.destroy_process_group()


def compare(section: ModelSection, image: str) -> None:
    """Each process has a batch of its own; FSDP's gradients are means over both."""
    rank = torch.distributed.get_rank()
    adapter = load_adapter(section.path)
    whole, sharded = (Policy(load_model(section, adapter).train(), adapter, temperature=0.7) for _ in range(2))
    encoded = adapter.encode(Prompt("<image>the small red circle", (image,)), [load_image(image)])
    batches = [CompletionBatch([encoded], [[[7, 8, 9, own], [11, 12]]]) for own in (21, 33)]
    for layer in (*sharded.model.model.language_model.layers, *sharded.model.model.visual.blocks):
        fully_shard(layer)
    fully_shard(sharded)

    expected = [whole(batch).logprobs_NT for batch in batches]
    (torch.stack([values.sin().sum() for values in expected]).sum() / 2).backward()
    logprobs_NT = sharded(batches[rank]).logprobs_NT
    logprobs_NT.sin().sum().backward()

    assert sharded.layout == "packed"
    torch.testing.assert_close(logprobs_NT, expected[rank], atol=TOLERANCE, rtol=0)
    for (name, own), other in zip(sharded.named_parameters(), whole.parameters(), strict=True):
        assert isinstance(own.grad, DTensor), name
        torch.testing.assert_close(own.grad.full_tensor(), other.grad, atol=TOLERANCE, rtol=0, msg=name)


if __name__ == "__main__":
    main(*sys.argv[1:])
