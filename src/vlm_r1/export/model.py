"""Exports a run's model as an ordinary Hugging Face folder, after comparing the two in plain transformers."""

# pyright: standard

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from PIL import Image
from transformers import AutoModelForImageTextToText

from vlm_r1.config import Config, load_config
from vlm_r1.errors import CheckpointError, ConfigError, ModelError
from vlm_r1.evaluation.asking import refuse_code, write_asking
from vlm_r1.export.model_card import model_card
from vlm_r1.models import Adapter, adapter_of, load_adapter, load_model
from vlm_r1.models.loading import note_of
from vlm_r1.policy.logprobs import TokenLogProbs
from vlm_r1.policy.rows import as_forward_takes
from vlm_r1.rollouts.env import same_encoding
from vlm_r1.runtime.checkpoint import (
    checkpoint_path,
    checkpoint_step,
    latest_checkpoint,
    list_checkpoints,
    new_folder,
)
from vlm_r1.runtime.manifest import EDITED, check_manifest
from vlm_r1.runtime.run_folder import RunFolder, planned_steps, step_of_weights
from vlm_r1.training.differences import difference, explained_by_rounding
from vlm_r1.types import EncodedPrompt, Prompt

SHARD_SIZE = "5GB"
"""Largest file of weights: a download that breaks off loses little."""


class Source(NamedTuple):
    """Weights of a run: folder, step, and the moment of their evaluations, e.g. "after"."""

    folder: Path
    step: int
    moment: str


def find_source(path: Path, step: int | None = None) -> Source:
    """Find the final model of a run, or its newest checkpoint if there is none; or the checkpoint of a step.

    Raises:
        CheckpointError: there is no run, or no checkpoint of that step.
    """
    run = RunFolder(path)
    if not (path / "config.yaml").exists():
        raise CheckpointError(f"{path}: holds no run: there is no config.yaml. Wanted the output_dir of a run")
    last = planned_steps(path, load_config(path / "config.yaml"))
    if step is None and run.model.exists():
        return Source(run.model, step_of_weights(run.model, last or 0), "after")
    folder = latest_checkpoint(run.checkpoints) if step is None else checkpoint_path(run.checkpoints, step)
    if folder is None or not folder.exists():
        there = ", ".join(str(checkpoint_step(found)) for found in list_checkpoints(run.checkpoints))
        missing = "neither a model nor a checkpoint yet" if step is None else f"no checkpoint of step {step}"
        raise CheckpointError(f"{path}: there is {missing}; checkpoints of steps: {there or 'none'}")
    found = checkpoint_step(folder)
    return Source(folder, found, "after" if found == last else f"step-{found:06d}")


def export_run(
    path: Path,
    target: Path,
    *,
    step: int | None = None,
    adapter_only: bool = False,
    dtype: str | None = None,
    allowed: Mapping[str, Sequence[str]] = {},
    say: Callable[[str], None] = lambda line: None,
) -> None:
    """Write a run's model with processor, generation config, model card and `vlm_r1.json` to a new folder.

    LoRA adapters are merged in float32. The folder is written under another name, loaded with plain transformers, and
    compared with the run's own model on a prompt with a picture. It gets its name only if they agree.

    Args:
        path: the run folder.
        target: the new folder; it may exist if it is empty.
        step: step of the checkpoint to export; default: the final model, or the newest checkpoint if there is none.
        adapter_only: write the LoRA adapter instead of a model.
        dtype: type to write the weights in, e.g. "bfloat16"; default: that of the run's weights, float32 for LoRA.
        allowed: code that the run's `config.yaml` may name, by kind: adapter, task, template; and "checkpoint":
            ["trust_remote_code"], if code of the checkpoint may run. The folder may come from a stranger.
        say: called with lines for people that say what is done.

    Raises:
        ConfigError: an option has no effect, the target is not an empty folder, or `config.yaml` names code that is not
            allowed.
        CheckpointError: there is no such run or checkpoint, it is damaged, or the target cannot be written.
        ModelError: the base model cannot be loaded, or the written model differs from the run's.
    """
    source, config = find_source(path, step), load_config(path / "config.yaml")
    _check_options(path, target, config, adapter_only, dtype)
    check_manifest(source.folder)
    _check_recipe(path / "config.yaml", config, allowed)
    if config.model.trust_remote_code:
        say(note_of(source.folder))
    say(f"exporting {source.folder}, step {source.step} of {planned_steps(path, config) or 'an unknown number'}")
    adapter = adapter_of(config.model, source.folder, chat_template_kwargs=config.data.chat_template_kwargs)
    with new_folder(target, step=source.step, edited=EDITED) as written:
        if adapter_only:
            found = _write_adapter(config, source, adapter, written)
        else:
            found = _write_model(config, source, adapter, written, dtype)
        say(found)
        card = model_card(
            RunFolder(path),
            config,
            adapter=adapter,
            step=source.step,
            moment=source.moment,
            check=found,
            as_adapter=adapter_only,
        )
        (written / "README.md").write_text(card, encoding="utf-8")
        write_asking(written, config, adapter.box_format)


def _check_options(path: Path, target: Path, config: Config, adapter_only: bool, dtype: str | None) -> None:
    if target.exists() and not (target.is_dir() and not any(target.iterdir())):
        raise ConfigError(f"--to {target}: is there already, and not an empty folder; choose another")
    if adapter_only and config.model.lora is None:
        raise ConfigError(f"{path}: trained all weights, so there is no adapter: leave --adapter-only out")
    if adapter_only and dtype is not None:
        raise ConfigError("--dtype has no effect with --adapter-only: an adapter stays in the type it was trained in")


def _check_recipe(path: Path, config: Config, allowed: Mapping[str, Sequence[str]]) -> None:
    if not config.data.train:
        raise ConfigError(f"{path}: data.train is empty, so no run can have been made by it. Restore it")
    trusted, trusts = bool(allowed.get("checkpoint")), config.model.trust_remote_code
    if trusts and not trusted:
        raise ConfigError(
            f"{path}: this run was trained with code of its checkpoint (model.trust_remote_code), which is not run. If "
            "you have read it and trust it, add --trust-remote-code (docs/security.md)"
        )
    if trusted and not trusts:
        raise ConfigError(f"{path}: this run ran no code of its checkpoint: leave --trust-remote-code out")
    named: list[tuple[str, str | None]] = [("adapter", config.model.adapter), ("template", config.data.template)]
    named += [(kind, getattr(source, kind)) for source in config.data.train for kind in ("task", "template")]
    refuse_code(path, [(kind, name) for kind, name in named if name not in allowed.get(kind, ())], "--allow-")


def _write_adapter(config: Config, source: Source, adapter: Adapter, written: Path) -> str:
    encoded, model = _encode(adapter), _load(config, source.folder, adapter)
    model.save_pretrained(written)
    expected_L, tokens_L = _logprobs(model, adapter, encoded).max(-1)
    reloaded_LV = _logprobs(_load(config, written, adapter), adapter, encoded)
    return _compare(expected_L, reloaded_LV.gather(1, tokens_L[:, None])[:, 0], model.dtype)


def _write_model(config: Config, source: Source, adapter: Adapter, written: Path, dtype: str | None) -> str:
    """Write the merged model and compare it; only one model is in memory at a time."""
    encoded, model = _encode(adapter), _load(config, source.folder, adapter)
    computed = model.dtype
    stored = computed if dtype is None else getattr(torch, dtype)
    expected_L, tokens_L = _logprobs(model, adapter, encoded).max(-1)
    if config.model.lora is not None:
        model = model.merge_and_unload()
    model.to(stored).save_pretrained(written, max_shard_size=SHARD_SIZE)
    adapter.save(written)
    del model
    trust = config.model.trust_remote_code
    plain = AutoModelForImageTextToText.from_pretrained(written, dtype=computed, trust_remote_code=trust).eval()
    plain_LV = _logprobs(plain, adapter, encoded)
    found = _compare(expected_L, plain_LV.gather(1, tokens_L[:, None])[:, 0], stored)
    own, switches = config.model, adapter.chat_template_kwargs
    again = load_adapter(
        written,
        adapter=own.adapter,
        box_format=own.box_format,
        chat_template_kwargs=switches,
        trust_remote_code=trust,
    )
    if not same_encoding(_encode(again), encoded):
        raise ModelError(
            "the tokenizer and image processor that were written encode a prompt with a picture differently from the "
            "run's; please report this"
        )
    return found


def _load(config: Config, folder: Path, adapter: Adapter) -> Any:
    """Load the run's model: LoRA in float32 on its base in full precision, other weights in their own type."""
    exact = "float64" if config.model.dtype == "float64" else "float32"
    section = config.model.model_copy(
        update={
            "dtype": exact if config.model.lora is not None else "checkpoint",
            "attn_implementation": "auto",
            "gradient_checkpointing": False,
            "load_in_4bit": False,
            "lora": None,  # no new one: the folder holds it
        }
    )
    return load_model(section, adapter, folder).eval()


def _encode(adapter: Adapter) -> EncodedPrompt:
    """Encode a question about a picture of coloured gradients."""
    grey = Image.linear_gradient("L").resize((336, 252))
    picture = Image.merge("RGB", (grey, grey.transpose(Image.Transpose.FLIP_TOP_BOTTOM), grey.rotate(180)))
    return adapter.encode(Prompt("<image>What is in the upper left corner of the picture?", ("picture",)), [picture])


@torch.no_grad()
def _logprobs(model: Any, adapter: Adapter, prompt: EncodedPrompt) -> torch.Tensor:
    """Return log-probabilities of all tokens at each place of the prompt, (L, V), by the model's own forward."""
    ids_1L = torch.tensor([prompt.ids_L])
    (positions_AL,) = adapter.positions(model, [prompt])
    vision = {k: v.to(model.dtype) if v.is_floating_point() else v for k, v in prompt.vision.items()}
    output = adapter.unwrap(model)(
        input_ids=ids_1L,
        attention_mask=torch.ones_like(ids_1L),
        position_ids=as_forward_takes(positions_AL[:, None]),
        use_cache=False,
        **vision,
        **adapter.token_types(ids_1L),
    )
    return output.logits[0].float().log_softmax(-1)


def _compare(expected_L: torch.Tensor, found_L: torch.Tensor, dtype: torch.dtype) -> str:
    """Compare log-probabilities of the tokens that the run's model finds likeliest; returns a line about them.

    Args:
        dtype: type of the written weights; it decides what rounding explains (`MEAN_TOLERANCE`).

    Raises:
        ModelError: they differ by more than rounding.
    """
    expected_1L = expected_L[None]
    differs = difference(TokenLogProbs(expected_1L, expected_1L, torch.ones_like(expected_1L).bool()), found_L[None])
    if not explained_by_rounding(differs, dtype):
        raise ModelError(
            f"what was written is not the run's model: loaded again, its log-probabilities differ by {differs}. "
            "Nothing was exported. An adapter on an output head that is tied to the embeddings cannot be merged: use "
            "--adapter-only"
        )
    name = str(dtype).removeprefix("torch.")
    return f"weights in {name}; loaded again, log-probabilities on a prompt with a picture differ by {differs}"
