"""The few numbers of a step that stand behind the progress bar."""

from __future__ import annotations

from collections.abc import Mapping

from vlm_r1.config import Config
from vlm_r1.config.secrets import masked
from vlm_r1.rewards.names import short_names
from vlm_r1.tasks import main_metric

_ROUNDING = 0.006  # of two decimals


def headline(numbers: Mapping[str, float], config: Config) -> list[str]:
    """Return the reward, its components in the order of the recipe, and the main metric of the recipe's first task.

    `=` and `+` stand only where they are true: the reward of each completion is the weighted sum of its components, and
    none left anything out.

    Args:
        numbers: of a step, as in `metrics.jsonl`.

    Returns:
        Pieces for `runtime.progress`, e.g. "reward 0.57", "= accuracy 0.32 + 0.5 × format 0.50", "accuracy@0.5 0.25".
    """
    weights = {masked(name): weight for name, weight in config.rewards.items()}
    parts = {name: numbers[f"rewards/{name}/mean"] for name in weights if f"rewards/{name}/mean" in numbers}
    short = short_names(parts)
    pieces: list[str] = []
    if "reward/mean" in numbers:
        reward = numbers["reward/mean"]
        pieces.append(f"reward {reward:.2f}")
        if abs(sum(weights[name] * part for name, part in parts.items()) - reward) < _ROUNDING:
            terms = [f"{_factor(weights[name])}{short[name]} {part:.2f}" for name, part in parts.items()]
            pieces.append(f"= {' + '.join(terms)}")
        else:
            pieces += [f"{short[name]} {part:.2f}" for name, part in parts.items()]
    metrics = [name.split("/")[1] for name in numbers if name.startswith("metrics/")]
    if main := main_metric(metrics, dict.fromkeys(source.task for source in config.data.train)):
        pieces.append(f"{main.replace('_iou50', '@0.5')} {numbers[f'metrics/{main}/mean']:.2f}")
    return pieces


def _factor(weight: float) -> str:
    return "" if weight == 1 else f"{weight:g} × "
