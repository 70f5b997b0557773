from vlm_r1.api.evaluate import evaluate as evaluate
from vlm_r1.api.runs import load_run as load_run
from vlm_r1.api.show import show as show
from vlm_r1.api.training import sft as sft
from vlm_r1.api.training import train as train
from vlm_r1.training.callbacks import StepEnd as StepEnd

__version__: str
