"""Tables of runs and evaluations as pandas frames."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from vlm_r1.errors import ConfigError

if TYPE_CHECKING:
    import pandas as pd


def frame(rows: Iterable[Mapping[str, Any]]) -> pd.DataFrame:
    """Return rows as a pandas frame, a column for each key in the order of its first use.

    Raises:
        ConfigError: pandas is not installed.
    """
    try:
        import pandas as pd
    except ImportError as error:
        raise ConfigError(f"pandas is not installed ({error}): pip install 'pandas>=2'") from error
    return pd.DataFrame(list(rows))


def estimates(metrics: Mapping[str, Mapping[str, Any]]) -> Iterable[dict[str, Any]]:
    """Yield the metrics of a result as rows: metric, mean, low and high end of the 95 % interval, n."""
    for name, value in metrics.items():
        low, high = value["ci95"]
        yield {"metric": name, "mean": value["mean"], "low": low, "high": high, "n": value["n"]}
