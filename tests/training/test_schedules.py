"""Schedules by transformers' names: each equals transformers' own, step by step, and a resumed one goes on the same."""

from __future__ import annotations

import inspect
from typing import Any, get_args

import pytest
import torch
from transformers import SchedulerType, get_scheduler
from transformers.optimization import TYPE_TO_SCHEDULER_FUNCTION

from vlm_r1.config.schedules import SCHEDULES, Number, ScheduleName
from vlm_r1.config.schema import TrainingSection
from vlm_r1.errors import ConfigError
from vlm_r1.training.optimizer import check_schedule, make_optimizers, make_schedulers, warmup_steps
from vlm_r1.training.state import set_schedules

LR, STEPS = 1e-3, 10
OPTIONS: dict[str, list[dict[str, Any]]] = {
    "cosine": [{}, {"num_cycles": 1.5}],
    "cosine_with_restarts": [{}, {"num_cycles": 3}],
    "polynomial": [{}, {"lr_end": 1e-4, "power": 2}],
    "inverse_sqrt": [{}, {"timescale": 5}],
    "cosine_with_min_lr": [{"min_lr": 1e-4}, {"min_lr_rate": 0.2, "num_cycles": 0.7}],
    "cosine_warmup_with_min_lr": [{"min_lr": 1e-4}, {"min_lr_rate": 0.2, "warmup_lr_rate": 0.3}],
    "warmup_stable_decay": [
        {"num_decay_steps": 4},
        {"num_decay_steps": 3, "decay_type": "1-sqrt", "min_lr_ratio": 0.1},
    ],
}


def model() -> torch.nn.Module:
    return torch.nn.Linear(2, 2)


def section_of(name: Any, **options: Any) -> TrainingSection:
    settings = {"learning_rate": LR, "max_steps": STEPS, "lr_scheduler_type": name, **options}
    return TrainingSection(**settings)


def ours(section: TrainingSection) -> Any:
    return make_schedulers(make_optimizers(model(), section), section)[0]


def rates(schedule: Any, n: int = STEPS) -> list[float]:
    found = []
    for _ in range(n):
        found.append(schedule.get_last_lr()[0])
        schedule.optimizer.step()
        schedule.step()
    return found


@pytest.mark.parametrize("name", SCHEDULES)
def test_each_equals_transformers_and_goes_on_the_same(name: ScheduleName) -> None:
    warmup = 3 if SCHEDULES[name].warms_up else 0
    for options in OPTIONS.get(name, [{}]):
        section = section_of(name, warmup_steps=warmup, lr_scheduler_kwargs=options)
        theirs = get_scheduler(
            name, torch.optim.AdamW(model().parameters(), lr=LR), warmup, STEPS, scheduler_specific_kwargs=options
        )
        expected = rates(theirs)
        assert rates(ours(section)) == expected, "the first is max(…, ) of no other rate than LR"
        resumed = ours(section)
        set_schedules([type("Wrapped", (), {"scheduler": resumed})], 6)
        assert rates(resumed, 4) == expected[6:]
    assert max(expected) == pytest.approx(LR)


def test_by_hand() -> None:
    """Decay over the last 4 of 10 steps, linear to 0.1: 1, 1, 1, …, then 1 − 0.9 · k / 4."""
    options = {"num_decay_steps": 4, "decay_type": "linear", "min_lr_ratio": 0.1}
    found = rates(ours(section_of("warmup_stable_decay", lr_scheduler_kwargs=options)))
    assert found == pytest.approx([LR] * 7 + [LR * (1 - 0.9 * k / 4) for k in (1, 2, 3)])


def test_the_end_is_that_of_the_recipes_rate_also_with_an_optimizer_of_ones_own() -> None:
    """The defaults of torch's optimizers have a rate of their own, 1e-2 for Adagrad: min_lr is no share of it."""
    options = {"min_lr": 1e-4}
    section = section_of("cosine_with_min_lr", optim="torch.optim:Adagrad", lr_scheduler_kwargs=options)
    schedule = ours(section)
    rates(schedule)
    assert schedule.get_last_lr()[0] == pytest.approx(1e-4)


def test_the_tables_are_transformers_own() -> None:
    """A new schedule or option of transformers shows here."""
    assert {*SCHEDULES, "reduce_lr_on_plateau", "greedy"} == {kind.value for kind in SchedulerType}
    assert set(get_args(ScheduleName)) == set(SCHEDULES)
    ours_alone = {"optimizer", "num_warmup_steps", "num_training_steps", "num_stable_steps", "last_epoch"}
    for name, schedule in SCHEDULES.items():
        parameters = inspect.signature(TYPE_TO_SCHEDULER_FUNCTION[SchedulerType(name)]).parameters
        assert set(schedule.options) == set(parameters) - ours_alone, name
    assert str(Number(0, 1)) == "a number from 0 to 1"


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        pytest.param("greedy", {}, "follows a metric", id="a metric"),
        pytest.param("reduce_lr_on_plateau", {}, "follows a metric .* e.g. cosine_with_min_lr", id="plateau"),
        pytest.param("linear", {"power": 2}, 'linear takes no "power". It takes: none', id="unknown to linear"),
        pytest.param("cosine", {"cycles": 2}, "It takes: num_cycles", id="a typing error"),
        pytest.param("cosine_with_restarts", {"num_cycles": 1.5}, "wanted a whole number from 1, got 1.5", id="half"),
        pytest.param("cosine", {"num_cycles": True}, "wanted a number", id="true is no number"),
        pytest.param("cosine_with_min_lr", {}, "needs exactly one of min_lr and min_lr_rate", id="missing"),
        pytest.param("cosine_with_min_lr", {"min_lr": 1e-5, "min_lr_rate": 0.1}, "needs exactly one", id="both"),
        pytest.param("cosine_with_min_lr", {"min_lr": 1e-3}, "ends at 0.001, which is not below", id="no decay"),
        pytest.param("polynomial", {"lr_end": 1}, "lower lr_end", id="rises"),
        pytest.param("warmup_stable_decay", {}, "needs num_decay_steps", id="decay is missing"),
        pytest.param("warmup_stable_decay", {"num_decay_steps": 2, "num_stable_steps": 3}, "no .num_stable", id="rest"),
        pytest.param("warmup_stable_decay", {"num_decay_steps": 2, "decay_type": "exp"}, "one of linear", id="word"),
    ],
)
def test_what_is_wrong_is_said(name: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        section_of(name, lr_scheduler_kwargs=options)


@pytest.mark.parametrize(
    ("given", "steps"),
    [
        pytest.param(0, 0, id="none"),
        pytest.param(3, 3, id="steps"),
        pytest.param(3.0, 3, id="whole"),
        pytest.param(0.25, 3, id="a share, rounded up: 2.5"),
        pytest.param(0.1, 1, id="a share, exact"),
        pytest.param(1, 1, id="one step, not all"),
    ],
)
def test_warmup(given: float, steps: int) -> None:
    assert warmup_steps(section_of("linear", warmup_steps=given)) == steps


@pytest.mark.parametrize("given", [-1, 1.5, float("inf"), float("nan")])
def test_no_warmup(given: float) -> None:
    with pytest.raises(ValueError, match="wanted a whole number of steps, or a share"):
        section_of("linear", warmup_steps=given)


@pytest.mark.parametrize(
    ("name", "warmup", "options"),
    [
        pytest.param("warmup_stable_decay", 7, {"num_decay_steps": 4}, id="7 + 4 > 10"),
        pytest.param("polynomial", 10, {}, id="no step is left"),
    ],
)
def test_warmup_and_decay_fit_into_the_run(name: str, warmup: int, options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="are more than the 10 steps of the run: lower warmup_steps"):
        check_schedule(section_of(name, warmup_steps=warmup, lr_scheduler_kwargs=options))
    check_schedule(section_of(name, warmup_steps=warmup - 1, lr_scheduler_kwargs=options))
