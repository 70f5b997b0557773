"""Published data sets → lines in the format of docs/data.md. One file per format, one line in `CONVERTERS`."""

from collections.abc import Mapping

from vlm_r1.converters.base import Conversion, Converter, Job, Line, Tally, run_conversion
from vlm_r1.converters.coco import COCO
from vlm_r1.converters.counting import COUNTBENCH, PIXMO_COUNT
from vlm_r1.converters.createml import CREATEML
from vlm_r1.converters.csv_boxes import CSV
from vlm_r1.converters.cvat import CVAT
from vlm_r1.converters.d3 import D3
from vlm_r1.converters.label_studio import LABEL_STUDIO
from vlm_r1.converters.labelme import LABELME
from vlm_r1.converters.lvis import LVIS
from vlm_r1.converters.negatives import NEGATIVES
from vlm_r1.converters.odinw import ODINW
from vlm_r1.converters.ovdeval import OVDEVAL
from vlm_r1.converters.reasonseg import REASONSEG
from vlm_r1.converters.refcoco import REFCOCO
from vlm_r1.converters.screenspot import SCREENSPOT
from vlm_r1.converters.voc import VOC
from vlm_r1.converters.yolo import YOLO

_OF_TOOLS = (YOLO, VOC, COCO, LABELME, CVAT, LABEL_STUDIO, CREATEML, CSV)
_ALL = (*_OF_TOOLS, REFCOCO, LVIS, D3, OVDEVAL, REASONSEG, ODINW, SCREENSPOT, COUNTBENCH, PIXMO_COUNT, NEGATIVES)

CONVERTERS: Mapping[str, Converter] = {converter.name: converter for converter in _ALL}

__all__ = ["CONVERTERS", "Conversion", "Converter", "Job", "Line", "Tally", "run_conversion"]
