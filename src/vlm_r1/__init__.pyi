from vlm_r1.api.evaluate import evaluate as evaluate
from vlm_r1.api.runs import load_run as load_run
from vlm_r1.api.show import show as show

__version__: str
