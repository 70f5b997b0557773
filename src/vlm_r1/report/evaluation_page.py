"""`NAME.html`: an evaluation as one offline page, from its result `NAME.json` and its samples beside it.

Its only script is `answers.js`, which filters and draws rows. The page's policy names it by its hash and forbids all
others, so that text from a model cannot run anything.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from vlm_r1.config.secrets import masked
from vlm_r1.data.image_paths import ImagePaths
from vlm_r1.evaluation.samples import read_samples, samples_path
from vlm_r1.parsing.json_values import is_number
from vlm_r1.report.answer_cards import card
from vlm_r1.report.answers import RIGHT, at_quantiles, by_quality, by_verdict, criterion, judged
from vlm_r1.report.answers_page import (
    appendix,
    bounded,
    command_of,
    images_beside,
    provenance_of,
    short_text,
    show,
    write_page,
)
from vlm_r1.report.build import Tile
from vlm_r1.report.evaluation_tables import (
    MAX_CLASSES,
    class_rows,
    confusion_matrix,
    counts_of,
    estimate,
    first_metric,
    metric_rows,
    set_statistics,
    subset_tables,
)
from vlm_r1.report.excerpt import visible
from vlm_r1.report.figures import number
from vlm_r1.report.read import Estimate, lookup
from vlm_r1.report.tables import capitalized, claim, is_share, readable
from vlm_r1.runtime.run_folder import read_json
from vlm_r1.runtime.text import writable


def build_evaluation_page(result: Path, images: ImagePaths | None = None) -> Path:
    """Atomically write `NAME.html` beside a result `NAME.json` and its `NAME.samples.jsonl`.

    Args:
        result: as docs/evaluation.md has it; one of an evaluation in training has fewer keys, and a shorter page.
        images: the folders and addresses that pictures may be read from, from `image_paths`; by default the folder of
            the result, and that of its run. A picture that lies elsewhere is replaced by a note.

    Returns:
        The path of the page: one file, which needs no network.

    Raises:
        CheckpointError: the result cannot be read, or the page cannot be written.
        DataError: the samples cannot be read; names file and line.
    """
    tree: dict[str, Any] = writable(read_json(result))
    samples = samples_path(result)
    main = first_metric(tree.get("metrics"))
    first: Mapping[str, float] = next((sample.metrics for sample in read_samples(samples)), dict[str, float]())
    ranked_by = main if main in first else next(iter(first), main)  # some main metrics are none of single answers
    found = judged(read_samples(samples), ranked_by)
    places, groups = at_quantiles(by_quality(found)), by_verdict(found)
    images = bounded(images or images_beside([result]))
    answers = ({"": sample} for sample in read_samples(samples))
    shown = show(answers, groups, set(places.values()), set(groups) - {RIGHT}, main=ranked_by, images=images)
    cards = [card(name, shown.kept[place], ranked_by, images) for name, place in places.items()]
    classes = class_rows(tree.get("classes"))
    protocol: Any = tree.get("protocol")
    return write_page(
        "evaluation_page.html.jinja",
        result.with_suffix(".html"),
        name=short_text(tree.get("name")) or result.stem,
        title=short_text(lookup(protocol, "title")) or short_text(tree.get("name")) or result.stem,
        headline=headline(tree),
        measured=list(_measured(tree, result)),
        tiles=list(_tiles(tree, main)),
        criterion=criterion(first, ranked_by),
        cards=cards,
        has_boxes=any(card.has_boxes for card in cards),
        shown=shown,
        n_answers=len(found),
        n_right=len(groups.get(RIGHT, ())),
        metrics=metric_rows(tree.get("metrics")),
        dataset=set_statistics(tree.get("dataset")),
        failures=counts_of(tree.get("parse_failures")),
        main=readable(main),
        subsets=subset_tables(tree.get("subsets"), main),
        classes=classes[:MAX_CLASSES],
        classes_left_out=len(classes[MAX_CLASSES:]),
        confusion=confusion_matrix(tree.get("confusion")),
        command=command_of(tree),
        protocol=appendix(protocol),
        provenance=provenance_of(tree),
    )


def headline(tree: Mapping[str, Any]) -> str:
    """Return the main number of a result and its interval as a sentence.

    >>> accuracy = {"mean": 0.635, "ci95": [0.592, 0.678]}
    >>> headline({"n": 512, "metrics": {"accuracy_iou50": accuracy}}).replace(chr(160), " ")
    'The box is right (IoU above 0.5) for 63.5 % of 512 records; with 95 % confidence, for 59.2 % to 67.8 %.'
    >>> headline({"n": 1, "metrics": {"iou": {"mean": 0.5}}})
    'Mean IoU is 0.500 over 1 record.'
    """
    metrics: Any = tree.get("metrics")
    main = first_metric(metrics)
    value = estimate(metrics[main]) if main else None
    if value is None:
        return "The result holds no metric."
    low, high = (_number(end, main) for end in value.ci95 or (value.mean, value.mean))
    mean, records = _number(value.mean, main), counted(tree.get("n"), "record")
    if is_share(main):
        interval = f"; with 95 % confidence, for {low} to {high}" if value.ci95 else ""
        return f"{_claim(main, tree)} for {mean} of {records}{interval}."
    interval = f"; with 95 % confidence, between {low} and {high}" if value.ci95 else ""
    return f"{capitalized(readable(main))} is {mean} over {records}{interval}."


def counted(n: object, what: str) -> str:
    """Return a count with its noun.

    >>> counted(1, "record"), counted(1024, "record"), counted(None, "record")
    ('1 record', '1,024 records', 'the records')
    """
    if not isinstance(n, int) or not is_number(n):
        return f"the {what}s"
    return f"{n:,} {what}{'' if n == 1 else 's'}"


def _claim(main: str, tree: Mapping[str, Any]) -> str:
    inclusive = lookup(tree.get("protocol"), "inclusive") is True
    text = capitalized(claim(main))
    return text.replace("IoU above", "IoU of at least") if inclusive else text


def _measured(tree: Mapping[str, Any], result: Path) -> Iterator[tuple[str, str]]:
    """Yield names and values of what was measured."""
    protocol, provenance = tree.get("protocol"), tree.get("provenance")
    run = result.resolve().parent.parent
    in_training = provenance is None and (run / "config.yaml").is_file()
    step: Any = tree.get("step")
    data = " ".join(short_text(lookup(protocol, "data", key)) for key in ("set", "split")).strip()
    yield "protocol", short_text(lookup(protocol, "name"))
    yield "model", short_text(lookup(provenance, "model")) or (f"the run {visible(run.name)}" if in_training else "")
    yield "step", f"{step:,}" if isinstance(step, int) and (step or in_training) else ""
    yield "task", short_text(tree.get("task"))
    yield "set", data
    yield "file", short_text(masked(str(tree.get("data") or "")))
    yield "date", short_text(lookup(provenance, "date"))


def _tiles(tree: Mapping[str, Any], main: str) -> Iterator[Tile]:
    metrics: Any = tree.get("metrics")
    value = estimate(metrics[main]) if main else None
    if value is not None:
        yield Tile(capitalized(readable(main)), _number(value.mean, main), _interval(value, main))
    yield Tile("Records", f"{tree['n']:,}" if isinstance(tree.get("n"), int) else "–")
    rate: Any = tree.get("format_rate")
    if is_number(rate):
        yield Tile("Asked form", number(float(rate), percent=True), "of the answers have it")
    failures = sum(count for _, count in counts_of(tree.get("parse_failures")))
    yield Tile("Not readable", f"{failures:,}", "answers")
    median: Any = lookup(tree.get("lengths"), "median")
    if is_number(median):
        cut: Any = tree.get("truncated")
        yield Tile("Length", f"{median:,.0f} tokens", f"median; {cut:,} cut off" if isinstance(cut, int) else "median")


def _interval(value: Estimate, metric: str) -> str:
    return " – ".join(_number(end, metric) for end in value.ci95) if value.ci95 else ""


def _number(value: float, metric: str) -> str:
    return number(value, percent=is_share(metric), decimals=None if is_share(metric) else 3)
