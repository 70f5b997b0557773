"""Detection over a whole set: COCO's statistics with intervals, the table of labels, and the confusion of labels.

A record is an image here: two records about one picture ask for other labels. Intervals draw pictures.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from vlm_r1.evaluation.coco_bootstrap import bootstrap_ap, interval
from vlm_r1.evaluation.coco_matching import ALL, Detections, GroundTruth, IntArray, Matches, match
from vlm_r1.evaluation.coco_results import Confidence, label_numbers, score_of
from vlm_r1.evaluation.coco_statistics import CocoCurves, average_precision_by_category, curves_of
from vlm_r1.evaluation.metrics import Summary, ratio_ci
from vlm_r1.evaluation.nms import ovdeval_nms
from vlm_r1.evaluation.sample_answers import Objects
from vlm_r1.evaluation.set_statistics import UNDEFINED, coco_numbers, greedy_counts
from vlm_r1.geometry.boxes import FloatArray, iou
from vlm_r1.parsing.normal_form import normalize_label

_LEAST_IOU = 0.5


class Answered(NamedTuple):
    """An answer to a detection record: gold objects, objects found, and the picture that it is about."""

    gold: Objects
    found: Objects
    picture: Hashable


class DetectionSet(NamedTuple):
    """A detection set, matched as it is and after OVDEval's NMS.

    Attributes:
        labels: the number of each, its category.
        detections: all boxes found; images are numbered in order.
        matches, nms_matches: what they have become.
        cluster_N: number of the picture of each answer.
        clusters: how many pictures there are.
    """

    labels: dict[str, int]
    detections: Detections
    matches: Matches
    nms_matches: Matches
    cluster_N: IntArray
    clusters: int


class SetMeasures(NamedTuple):
    """Numbers of a detection set.

    Attributes:
        numbers: those of `set_statistics`.
        summaries: with intervals, those of dataset_ap, dataset_ap50, nms_ap, nms_ap50, gp and gr that are defined.
        classes: a row for each label, of all draws together, the most frequent in the gold answers first: gold,
            predicted, ap and ap50 by COCO, precision and recall by its matching at IoU 0.5. None: not defined.
    """

    numbers: dict[str, float]
    summaries: dict[str, Summary]
    classes: list[dict[str, Any]]


def measure_set(draws: Sequence[Sequence[Answered]], confidence: Confidence, seed: int) -> SetMeasures:
    """Measure a detection set.

    Args:
        draws: for each draw the answers to all records, in the same order. AP of several draws is the mean over them.
        confidence: see `score_of`.
        seed: of the intervals.
    """
    sets = [make_set(answers, confidence) for answers in draws]
    plain = _mean([coco_numbers(own.matches) for own in sets])
    filtered = _mean([coco_numbers(own.nms_matches) for own in sets])
    numbers = {**plain, **{f"nms_{name}": value for name, value in filtered.items()}}
    summaries: dict[str, Summary] = {}
    for prefix, measured, is_nms in (("dataset_", plain, False), ("nms_", filtered, True)):
        if measured["ap"] == UNDEFINED:
            continue
        drawn_B2 = draw_ap(sets, seed, nms=is_nms)
        for column, name in enumerate(("ap", "ap50")):
            ci95 = interval(measured[name], drawn_B2[:, column])
            summaries[prefix + name] = Summary(measured[name], ci95, len(sets[0].cluster_N))
    greedy = _greedy(sets, seed)
    numbers |= {name: greedy[name].mean if name in greedy else UNDEFINED for name in ("gp", "gr")}
    everything = sets[0] if len(sets) == 1 else make_set([one for own in draws for one in own], confidence)
    return SetMeasures(numbers, {**summaries, **greedy}, label_table(everything))


def measure_aspects(
    subsets: Mapping[str, Sequence[Sequence[Answered]]],
    aspects: Mapping[str, Sequence[str]],
    confidence: Confidence,
    seed: int,
) -> tuple[dict[str, dict[str, float | None]], Summary | None]:
    """Measure NMS-AP of each subset, and the mean over the aspects of the mean over their subsets.

    Source: OVDEval, arXiv 2308.13177: the overall number is the mean of five aspects.

    Args:
        subsets: draws of the answers of each subset, see `measure_set`.
        aspects: the names of the subsets of each aspect.

    Returns:
        Aspect → subset → NMS-AP, None for a subset without records or gold boxes; and the overall number, None if one
        of them is None. Each subset is drawn for itself, as the sizes of subsets are given.
    """
    names = list(dict.fromkeys(name for own in aspects.values() for name in own))
    measured = {name: _nms_ap(subsets.get(name, ()), confidence, seed + i) for i, name in enumerate(names)}
    values = {name: None if own is None else own[0] for name, own in measured.items()}
    table = {aspect: {name: values[name] for name in own} for aspect, own in aspects.items()}
    known = {name: own for name, own in measured.items() if own is not None}
    if len(known) < len(names):
        return table, None
    overall = float(np.mean([np.mean([known[name][0] for name in own]) for own in aspects.values()]))
    drawn_B = _average([_average([known[name][1] for name in own]) for own in aspects.values()])
    return table, Summary(overall, interval(overall, drawn_B), sum(len(subsets[name][0]) for name in names))


def confusion(answers: Sequence[Answered]) -> list[list[Any]]:
    """Count which labels were given to the objects of which labels: [gold label, predicted label, count], most first.

    Whatever their labels, boxes and gold boxes of an answer are paired greedily: the pair with the greatest IoU first,
    down to 0.5; of equal ones, that with equal labels. None stands for nothing there, or nothing found.
    """
    counts: Counter[tuple[str | None, str | None]] = Counter()
    for one in answers:
        counts.update(_paired_labels(one))
    rows = sorted(counts.items(), key=lambda item: (-item[1], *(name or "" for name in item[0])))
    return [[gold, found, count] for (gold, found), count in rows]


def _paired_labels(one: Answered) -> Iterator[tuple[str | None, str | None]]:
    gold, found = ([normalize_label(item.label) for item in side] for side in (one.gold, one.found))
    close = [
        (-overlap, found[n] != gold[m], n, m)
        for n, item in enumerate(one.found)
        for m, there in enumerate(one.gold)
        if (overlap := iou(item.box, there.box)) >= _LEAST_IOU
    ]
    free_n, free_m = dict.fromkeys(range(len(found))), dict.fromkeys(range(len(gold)))
    for _, _, n, m in sorted(close):
        if n in free_n and m in free_m:
            del free_n[n], free_m[m]
            yield gold[m], found[n]
    yield from ((gold[m], None) for m in free_m)
    yield from ((None, found[n]) for n in free_n)


# ---- sets ----------------------------------------------------------------------------------------------------------


def make_set(answers: Sequence[Answered], confidence: Confidence) -> DetectionSet:
    number = label_numbers((one.gold, one.found) for one in answers)
    gold = [(i, number[normalize_label(item.label)], item.box) for i, one in enumerate(answers) for item in one.gold]
    found = [
        (i, number[normalize_label(item.label)], item.box, score_of(place, confidence))
        for i, one in enumerate(answers)
        for place, item in enumerate(one.found)
    ]
    detections = Detections(*_columns(found), np.array([row[3] for row in found], dtype=np.float64))
    truth = GroundTruth(*_columns(gold))
    pictures: dict[Hashable, int] = {}
    cluster_N = np.array([pictures.setdefault(one.picture, len(pictures)) for one in answers], dtype=np.int64)
    filtered = match(ovdeval_nms(detections, truth), truth)
    return DetectionSet(number, detections, match(detections, truth), filtered, cluster_N, len(pictures))


def _columns(rows: Sequence[tuple[Any, ...]]) -> tuple[IntArray, IntArray, FloatArray]:
    images, categories = (np.array([row[i] for row in rows], dtype=np.int64) for i in (0, 1))
    return images, categories, np.array([row[2] for row in rows], dtype=np.float64).reshape(-1, 4)


def draw_ap(sets: Sequence[DetectionSet], seed: int, *, nms: bool) -> FloatArray:
    """Return AP and AP50 of drawn sets, (B, 2): the mean over the draws of answers, each of the same pictures."""
    drawn: list[FloatArray] = []
    for made in sets:
        matches = made.nms_matches if nms else made.matches
        cluster_I = made.cluster_N[matches.images_I.astype(np.int64)]
        drawn.append(bootstrap_ap(matches, cluster_I, made.clusters, seed=seed))
    return _average(drawn)


def _average(drawn: Sequence[FloatArray]) -> FloatArray:
    """Return the mean of arrays (B, …); of large sets fewer may have been drawn."""
    B = min(map(len, drawn))
    return np.mean([own[:B] for own in drawn], axis=0)


def _nms_ap(draws: Sequence[Sequence[Answered]], confidence: Confidence, seed: int) -> tuple[float, FloatArray] | None:
    """Return NMS-AP of a subset and of sets drawn from it, (B,); None if it is not defined."""
    sets = [make_set(answers, confidence) for answers in draws if answers]
    if not sets:
        return None
    value = _mean([coco_numbers(own.nms_matches) for own in sets])["ap"]
    return None if value == UNDEFINED else (value, draw_ap(sets, seed, nms=True)[:, 0])


def _greedy(sets: Sequence[DetectionSet], seed: int) -> dict[str, Summary]:
    """Return GP and GR with their intervals over pictures, all draws together."""
    counts_3M = np.zeros((3, sets[0].clusters))
    for made in sets:
        for row, counts_I in zip(counts_3M, greedy_counts(made.detections, made.matches), strict=True):
            np.add.at(row, made.cluster_N[made.matches.images_I.astype(np.int64)], counts_I)
    hits_M, *below = counts_3M
    n = len(sets[0].cluster_N)
    return {
        name: Summary(float(hits_M.sum() / below_M.sum()), ratio_ci(hits_M, below_M, seed=seed), n)
        for name, below_M in zip(("gp", "gr"), below, strict=True)
        if below_M.any()
    }


def label_table(made: DetectionSet) -> list[dict[str, Any]]:
    """Return a row for each label; see `SetMeasures.classes`."""
    matches = made.matches
    curves = curves_of(matches)
    ap, ap50 = average_precision_by_category(curves), average_precision_by_category(_at_50(curves))
    place = {int(category): k for k, category in enumerate(matches.categories_K.tolist())}
    K = len(place)
    hits_K = np.bincount(matches.seen.category_N[matches.hit_ATN[ALL, 0]], minlength=K).tolist()
    gold_K = np.bincount(matches.gold.category_N, minlength=K).tolist()
    found: Counter[int] = Counter(made.detections.category_ids_N.tolist())
    rows: list[dict[str, Any]] = []
    for label, number in made.labels.items():
        gold, hits = (side[place[number]] if number in place else 0 for side in (gold_K, hits_K))
        rows.append(
            {
                "label": label,
                "gold": gold,
                "predicted": found[number],
                "ap": ap.get(number),
                "ap50": ap50.get(number),
                "precision": hits / found[number] if found[number] else None,
                "recall": hits / gold if gold else None,
            }
        )
    return sorted(rows, key=lambda row: (-row["gold"], -row["predicted"], row["label"]))


def _at_50(curves: CocoCurves) -> CocoCurves:
    return CocoCurves(curves.category_ids, curves.precision_TRKA[:1], curves.recall_TKAM[:1])


def _mean(numbers: Sequence[Mapping[str, float]]) -> dict[str, float]:
    return {name: float(np.mean([own[name] for own in numbers])) for name in numbers[0]}
