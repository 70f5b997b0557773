"""TRL's GRPOTrainer on the files of benchmarks/scenes.py, set up as a user who wants speed would, and timed.

The whole step is one micro-batch wherever memory permits; no gradient checkpointing; old log-probabilities are not
computed, as num_iterations is 1. TRL's own methods run unchanged: a subclass only reads the clock round them.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset, Image
from transformers import AutoImageProcessor, AutoTokenizer, Qwen2_5_VLProcessor, TrainerCallback
from trl import GRPOConfig, GRPOTrainer  # type: ignore[attr-defined]

from benchmarks.meter import Meter
from benchmarks.scenes import REWARDS, Sizes, read_records
from vlm_r1.models.qwen_vl import Qwen25VL
from vlm_r1.tasks.judge import Attempt, judge
from vlm_r1.tasks.rec import Rec
from vlm_r1.tasks.templates import get_template
from vlm_r1.types import IMAGE_TOKEN, ImageFrame, Record


def train_with_trl(folder: Path, out: Path, sizes: Sizes, meter: Meter) -> dict[str, Any]:
    """Take the steps; returns the mean completion length of the measured ones."""
    records = read_records(folder)
    trainer = _TimedTrainer(
        model=str(folder / "model"),
        reward_funcs=_reward(records, sizes),
        args=_config(out, sizes),
        train_dataset=_dataset(records),
        processing_class=_processor(folder / "model", sizes),
        meter=meter,
    )
    trainer.add_callback(_Marks(trainer))
    trainer.train()
    lengths = trainer.lengths[sizes.rows :]
    return {"completion_length": sum(lengths) / len(lengths)}


def _config(out: Path, sizes: Sizes) -> GRPOConfig:
    return GRPOConfig(
        output_dir=str(out),
        per_device_train_batch_size=sizes.rows_per_micro_batch,
        gradient_accumulation_steps=sizes.rows // sizes.rows_per_micro_batch,
        num_generations=sizes.generations,
        max_completion_length=sizes.completion_tokens,
        max_steps=sizes.steps + 1,
        beta=sizes.beta,
        use_bias_correction_kl=False,  # as ours: else its KL term would be another
        loss_type="dapo",
        learning_rate=1e-6,
        lr_scheduler_type="constant",
        optim="adamw_torch_fused",
        model_init_kwargs={"dtype": "float32"},
        use_cpu=True,
        bf16=False,
        gradient_checkpointing=False,
        dataloader_pin_memory=False,
        logging_strategy="no",
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
    )


class _TimedTrainer(GRPOTrainer):
    """sample: prompts, images and generation; policy: forward, loss and backward; optimizer: clipping and step."""

    def __init__(self, *, meter: Meter, **options: Any):
        super().__init__(**options)
        self.meter = meter
        self.lengths: list[int] = []
        self.pass_ended = 0.0

    def training_step(self, *given: Any, **named: Any) -> Any:
        seconds = self.meter.phases.seconds
        before = _sum(seconds, "sample", "score", "reference")
        with self.meter.phases("policy"):
            result = super().training_step(*given, **named)
        seconds["policy"] -= _sum(seconds, "sample", "score", "reference") - before
        self.pass_ended = time.perf_counter()
        return result

    def _generate_and_score_completions(self, inputs: Any) -> Any:
        seconds = self.meter.phases.seconds
        with self.meter.phases("sample"):
            result = super()._generate_and_score_completions(inputs)
        seconds["sample"] -= _sum(seconds, "score", "reference")
        return result

    def _generate(self, prompts: Any) -> Any:
        result = super()._generate(prompts)
        self.lengths += [len(ids_T) for ids_T in result[1]]
        return result

    def _calculate_rewards(self, *given: Any) -> Any:
        with self.meter.phases("score"):
            return super()._calculate_rewards(*given)

    def _get_per_token_logps_and_entropies(self, model: Any, *given: Any, **named: Any) -> Any:
        if torch.is_grad_enabled():
            return super()._get_per_token_logps_and_entropies(model, *given, **named)
        with self.meter.phases("reference"):
            return super()._get_per_token_logps_and_entropies(model, *given, **named)


class _Marks(TrainerCallback):
    def __init__(self, trainer: _TimedTrainer):
        self.trainer = trainer

    def on_train_begin(self, *_: Any, **__: Any) -> None:
        self.trainer.meter.start()

    def on_optimizer_step(self, *_: Any, **__: Any) -> None:
        self.trainer.meter.phases.seconds["optimizer"] = time.perf_counter() - self.trainer.pass_ended

    def on_step_end(self, *_: Any, **__: Any) -> None:
        self.trainer.meter.step_done()

    def on_train_end(self, *_: Any, **__: Any) -> None:
        self.trainer.meter.stop()


def _sum(seconds: dict[str, float], *names: str) -> float:
    return sum(seconds.get(name, 0.0) for name in names)


class _ImageProcessorAndTokenizer(Qwen2_5_VLProcessor):
    """The family's processor without its video half, which cannot be built without torchvision."""

    video_processor = None

    @classmethod
    def get_attributes(cls) -> list[str]:
        return [name for name in super().get_attributes() if name != "video_processor"]


_ImageProcessorAndTokenizer.__name__ = Qwen2_5_VLProcessor.__name__  # transformers goes by the name


def _processor(model: Path, sizes: Sizes) -> Qwen2_5_VLProcessor:
    """With the limits that leave the images as large as they are."""
    tokenizer = AutoTokenizer.from_pretrained(model, padding_side="left")  # TRL pads so; else its token types shift
    image_processor = AutoImageProcessor.from_pretrained(model)
    image_processor.size = {"shortest_edge": sizes.image_px, "longest_edge": sizes.image_px}
    return _ImageProcessorAndTokenizer(image_processor, tokenizer, chat_template=tokenizer.chat_template)


def _dataset(records: list[Record]) -> Dataset:
    """The same questions and PNG files, decoded when a row is read; TRL puts the image before the text, as we do."""
    rows = [
        {
            "prompt": [{"role": "user", "content": record.problem.replace(IMAGE_TOKEN, "")}],
            "image": record.images[0],
            "index": index,
        }
        for index, record in enumerate(records)
    ]
    return Dataset.from_list(rows).cast_column("image", Image())


def _reward(records: list[Record], sizes: Sizes) -> Any:
    """Our own judge, as a reward function of TRL."""
    task, template = Rec(), get_template("bare")
    frames = (ImageFrame(sizes.image_wh, sizes.image_wh),)

    def judged(completions: list[list[dict[str, str]]], index: list[int], **_: Any) -> list[float]:
        attempts = [
            Attempt(turns[0]["content"], records[i], frames, task, template)
            for turns, i in zip(completions, index, strict=True)
        ]
        return [score.reward for score in judge(attempts, Qwen25VL.box_format, REWARDS)]

    return judged
