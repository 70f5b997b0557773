"""Published data sets → lines in the format of docs/data.md. One file per format, one line in `CONVERTERS`."""

from collections.abc import Mapping

from vlm_r1.data.converters.base import Conversion, Converter, Job, Line, Tally, run_conversion
from vlm_r1.data.converters.coco import COCO
from vlm_r1.data.converters.counting import COUNTBENCH, PIXMO_COUNT
from vlm_r1.data.converters.d3 import D3
from vlm_r1.data.converters.lvis import LVIS
from vlm_r1.data.converters.negatives import NEGATIVES
from vlm_r1.data.converters.odinw import ODINW
from vlm_r1.data.converters.ovdeval import OVDEVAL
from vlm_r1.data.converters.reasonseg import REASONSEG
from vlm_r1.data.converters.refcoco import REFCOCO
from vlm_r1.data.converters.screenspot import SCREENSPOT

_ALL = (REFCOCO, COCO, LVIS, D3, OVDEVAL, REASONSEG, ODINW, SCREENSPOT, COUNTBENCH, PIXMO_COUNT, NEGATIVES)

CONVERTERS: Mapping[str, Converter] = {converter.name: converter for converter in _ALL}

__all__ = ["CONVERTERS", "Conversion", "Converter", "Job", "Line", "Tally", "run_conversion"]
