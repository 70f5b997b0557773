"""What the learner does at the edges: a gradient that is not finite, optimizers."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForImageTextToText

from vlm_r1.config import load_config
from vlm_r1.config.schema import TrainingSection
from vlm_r1.errors import ConfigError, ModelError
from vlm_r1.grpo.trainer import train
from vlm_r1.models import load_adapter
from vlm_r1.models.parts import PARTS
from vlm_r1.runtime.metrics_log import read_metrics
from vlm_r1.supervised.trainer import train_sft
from vlm_r1.training.learner import Learner, seed_step
from vlm_r1.training.optimizer import make_optimizers, make_schedulers


def test_a_gradient_that_is_not_finite_is_skipped_counted_and_at_last_stops_the_run(recipe, tmp_path) -> None:
    ruinous = {"training.learning_rate": 1e30, "training.max_steps": 9, "training.max_skipped_steps": 3}
    with pytest.raises(ModelError, match="not finite in 3 updates in a row"):
        train(load_config(recipe(**ruinous)))
    skipped = [row["steps/skipped"] for row in read_metrics(tmp_path / "run/metrics.jsonl")]
    assert skipped[0] == 0
    assert skipped[-2:] == [1, 1]
    assert len(list((tmp_path / "run/rollouts").iterdir())) == len(skipped) + 1, (
        "the rollouts of the last step are kept"
    )


def test_muon_takes_hidden_matrices_and_adamw_the_rest(model64) -> None:
    adamw, muon = make_optimizers(model64, TrainingSection(optim="muon"))
    names = {id(p): name for name, p in model64.named_parameters()}
    hidden = {names[id(p)] for group in muon.param_groups for p in group["params"]}
    rest = {names[id(p)] for group in adamw.param_groups for p in group["params"]}
    assert hidden | rest == set(names.values())
    assert not hidden & rest
    assert "model.language_model.layers.0.self_attn.q_proj.weight" in hidden
    assert "model.language_model.embed_tokens.weight" in rest
    assert all(dict(model64.named_parameters())[name].ndim == 2 for name in hidden)


def test_frozen_parameters_get_no_optimizer(model64) -> None:
    model64.model.visual.requires_grad_(False)
    (adamw,) = make_optimizers(model64, TrainingSection())
    count = sum(p.numel() for group in adamw.param_groups for p in group["params"])
    assert count == sum(p.numel() for name, p in model64.named_parameters() if "visual" not in name)


def test_parts_have_rates_of_their_own(model64, adapter) -> None:
    section = TrainingSection(learning_rate=1e-4, learning_rates={"vision": 1e-6, "projector": 1e-5})
    (adamw,) = make_optimizers(model64, section, adapter)
    names = {id(p): name for name, p in model64.named_parameters()}
    parts = {group["lr"]: {adapter.part_of(names[id(p)]) for p in group["params"]} for group in adamw.param_groups}
    assert parts == {1e-4: {"language"}, 1e-5: {"projector"}, 1e-6: {"vision"}}
    assert adamw.param_groups[0]["lr"] == 1e-4, "the rate that is logged"
    assert sum(len(group["params"]) for group in adamw.param_groups) == len(names)
    same = TrainingSection(learning_rate=1e-4, learning_rates={"vision": 1e-4})
    assert len(make_optimizers(model64, same, adapter)[0].param_groups) == 1


@pytest.mark.parametrize("optim", ["adamw", "muon"])
def test_the_schedule_moves_all_rates(optim: str, model64, adapter) -> None:
    section = TrainingSection(optim=optim, learning_rate=1e-3, learning_rates={"vision": 1e-5}, max_steps=4)
    optimizers = make_optimizers(model64, section, adapter)
    for optimizer, scheduler in zip(optimizers, make_schedulers(optimizers, section), strict=True):
        optimizer.step()
        scheduler.step()
        assert scheduler.get_last_lr() == pytest.approx([0.75e-3, 0.75e-5])


def test_the_first_step_of_adamw_moves_each_part_by_its_rate(recipe, tiny_checkpoint, tmp_path) -> None:
    """Its update is rate · g / (|g| + 1e-8): the rate itself, but where a gradient is next to nothing."""
    rates = {"vision": 1e-4, "projector": 1e-3}
    options = {"training.learning_rates": rates, "training.learning_rate": 1e-2, "training.max_steps": 1}
    train(load_config(recipe(**options)))
    folders = (tiny_checkpoint, tmp_path / "run/model")
    before, after = (AutoModelForImageTextToText.from_pretrained(folder) for folder in folders)
    adapter, moved = load_adapter(tiny_checkpoint), dict.fromkeys(PARTS, 0.0)
    for (name, old), new in zip(before.named_parameters(), after.parameters(), strict=True):
        part = adapter.part_of(name)
        moved[part] = max(moved[part], float((new - old).detach().abs().max()))
    assert moved == pytest.approx({**rates, "language": 1e-2}, rel=1e-2)
    assert read_metrics(tmp_path / "run/metrics.jsonl")[0]["learning_rate"] == 1e-2


def test_saved_weights_are_loaded_in_the_type_that_trained(recipe, tiny_checkpoint, tmp_path) -> None:
    """Frozen matrices are held in bfloat16, and the first parameter is one of them; what was learnt has 32 bits."""
    base = shutil.copytree(tiny_checkpoint, tmp_path / "published")
    weights = {name: x.bfloat16() for name, x in load_file(base / "model.safetensors").items()}
    save_file(weights, base / "model.safetensors", {"format": "pt"})
    options = {"model.path": str(base), "model.freeze_vision_modules": True, "training.mixed_precision": "bf16"}
    train(load_config(recipe(**options, **{"training.max_steps": 1, "training.learning_rate": 1e-5})))
    saved = load_file(tmp_path / "run/model/model.safetensors")
    assert {str(x.dtype) for x in saved.values()} == {"torch.bfloat16", "torch.float32"}
    plain = AutoModelForImageTextToText.from_pretrained(tmp_path / "run/model").state_dict()
    start, exact = (
        AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32).state_dict()
        for folder in (base, tmp_path / "run/model")
    )
    assert all(torch.equal(x, plain[name]) for name, x in exact.items())
    moved = [x for name, x in exact.items() if not torch.equal(x, start[name])]
    assert any(not torch.equal(x.bfloat16().float(), x) for x in moved), "the control: bfloat16 would round them"


def test_prompts_without_images_teach_a_vision_part_nothing(recipe, tmp_path) -> None:
    turns = [{"from": "human", "value": "what is 2"}, {"from": "gpt", "value": "2"}]
    (tmp_path / "text.jsonl").write_text(json.dumps({"id": 1, "conversations": turns}))
    source = {"path": str(tmp_path / "text.jsonl"), "task": "vqa"}
    options = {"model.freeze": ["language"], "data.train": [source], "training.prompts_per_step": 1}
    with pytest.raises(ModelError, match=r"have no image, and only the vision part trains"):
        train_sft(load_config(recipe(**options)))


def test_seeds_differ_by_run_step_and_process() -> None:
    draws = set()
    for seed in ((1, 1, 0), (2, 1, 0), (1, 2, 0), (1, 1, 1), (1, 1, 0)):
        seed_step(*seed)
        draws.add(float(torch.rand(())))
    assert len(draws) == 4


@pytest.mark.parametrize("optim", ["adamw", "muon"])
def test_norms_and_biases_do_not_decay(optim: str, model64, adapter) -> None:
    section = TrainingSection(optim=optim, weight_decay=0.1, learning_rates={"vision": 1e-5})
    names = {id(p): name for name, p in model64.named_parameters()}
    decays = {}
    for optimizer in make_optimizers(model64, section, adapter):
        for group in optimizer.param_groups:
            decays |= {names[id(p)]: group["weight_decay"] for p in group["params"]}
    assert decays.keys() == set(names.values())
    kept = {name for name, decay in decays.items() if decay == 0}
    assert kept == {name for name, p in model64.named_parameters() if p.ndim == 1}
    assert {"model.language_model.norm.weight", "model.language_model.layers.0.self_attn.q_proj.bias"} <= kept
    assert decays["model.language_model.embed_tokens.weight"] == 0.1


def test_a_decayed_step_leaves_norms_where_they_are(model64) -> None:
    """Without a gradient decay alone moves: a matrix by the factor 1 − 0.5 · 0.1, a norm not at all."""
    start = {name: p.detach().clone() for name, p in model64.named_parameters()}
    (adamw,) = make_optimizers(model64, TrainingSection(weight_decay=0.1, learning_rate=0.5))
    for parameter in model64.parameters():
        parameter.grad = torch.zeros_like(parameter)
    adamw.step()
    for name, parameter in model64.named_parameters():
        torch.testing.assert_close(parameter.detach(), start[name] * (1 if parameter.ndim == 1 else 0.95))


@pytest.mark.parametrize("how", ["said", "as stored"])
@pytest.mark.parametrize("trainer", [train, train_sft])
def test_weights_that_train_in_16_bits_are_refused(
    trainer, how: str, recipe, tiny_checkpoint, adapter, tmp_path
) -> None:
    options = {"model.dtype": "bfloat16"}
    if how == "as stored":
        model = AutoModelForImageTextToText.from_pretrained(tiny_checkpoint, dtype=torch.bfloat16)
        model.save_pretrained(tmp_path / "half")
        adapter.save(tmp_path / "half")
        options = {"model.path": str(tmp_path / "half"), "model.dtype": "checkpoint"}
    with pytest.raises(ConfigError, match="67 other parameters would train in 16 bits, where a step of 1e-6 is lost"):
        trainer(load_config(recipe(**options)))
    assert not (tmp_path / "run").exists()


def test_adapters_train_in_float32_on_weights_in_bfloat16(recipe, adapter) -> None:
    options = {"model.dtype": "bfloat16", "model.lora": {"r": 2}}
    learner = Learner(load_config(recipe(**options)), adapter, None, temperature=1.0)
    types = {p.requires_grad: p.dtype for p in learner.model.parameters()}
    assert types == {True: torch.float32, False: torch.bfloat16}
