"""Collects the groups of a step. They are sampled once, or until enough groups have rewards that differ."""

from __future__ import annotations

from functools import partial

from vlm_r1.config.secrets import masked
from vlm_r1.grpo.compared import has_signal
from vlm_r1.rewards.base import TrainerState
from vlm_r1.rewards.call import Logged
from vlm_r1.rollouts.groups import sample_groups
from vlm_r1.runtime.metrics import Metric, ratio
from vlm_r1.runtime.phases import Phases
from vlm_r1.sampling import SamplingParams
from vlm_r1.training.steps import TrainingRun
from vlm_r1.types import Group, Record


def collect_groups(
    run: TrainingRun, params: SamplingParams, phases: Phases, logged: Logged | None = None
) -> tuple[list[Group], Group, dict[str, Metric], list[int]]:
    """Sample and judge the groups of the next step.

    Dynamic sampling (DAPO, arXiv 2503.14476, section 3.2): prompts_per_step prompts are drawn again while fewer groups
    than that, over all processes, have rewards that differ; at most `dynamic_sampling_rounds` times. The step takes the
    first `prompts_per_step` such groups in the order of the records. If there are too few, it adds others. All
    processes choose together, so the choice does not depend on their number. A process may end with no group.

    Args:
        logged: collects the metrics that rewards log.

    Returns:
        The chosen groups of this process; any group of this process, for the case that it has none; metrics; for each
        chosen group its place among those of all processes, in the order of the records.
    """
    config, learner = run.config, run.learner
    wanted, rank = config.training.prompts_per_step, learner.accelerator.process_index
    own: dict[tuple[int, int, int], Group] = {}  # by (round, process, place), which is the order of the records
    signals: dict[tuple[int, int, int], bool] = {}  # of all processes
    run.sampler.sync(learner.step)
    logged = Logged() if logged is None else logged
    for round_number in range(config.grpo.dynamic_sampling_rounds):
        with phases("encode"):
            draws, records = run.next_records()
        groups = run.do_together(partial(_sample, run, params, phases, logged, draws=draws, records=records))
        own |= {(round_number, rank, place): group for place, group in enumerate(groups)}
        for process, found in enumerate(learner.gather([[has_signal(group, config) for group in groups]])):
            signals |= {(round_number, process, place): signal for place, signal in enumerate(found)}
        if sum(signals.values()) >= wanted:
            break
    chosen = sorted(sorted(signals, key=lambda key: (not signals[key], key))[:wanted])
    places = {key: place for place, key in enumerate(chosen)}
    tokens = sum(sum(rollout.completion.sampled_T) for group in own.values() for rollout in group.rollouts)
    metrics = {
        "groups/no_signal": ratio(len(signals) - sum(signals.values()), len(signals)),
        "tokens/sample": Metric("sum", tokens),
    }
    metrics |= {name: Metric("sum", count) for name, count in logged.counts.items()}
    metrics |= {f"time/rewards/{masked(name)}_s": Metric("max", seconds) for name, seconds in logged.seconds.items()}
    if config.grpo.dynamic_sampling_rounds > 1:
        metrics["groups/drawn"] = Metric("max", len(signals))
    kept = [key for key in own if key in places]
    return [own[key] for key in kept], next(iter(own.values())), metrics, [places[key] for key in kept]


def _sample(
    run: TrainingRun,
    params: SamplingParams,
    phases: Phases,
    logged: Logged,
    *,
    draws: list[int],
    records: list[Record],
) -> list[Group]:
    config, learner = run.config, run.learner
    with learner.autocast_for_sampling():
        return sample_groups(
            records,
            run.env,
            run.sampler,
            params,
            n=config.grpo.num_generations,
            run_seed=config.seed,
            draws=draws,
            phases=phases,
            add_features=learner.with_features,
            trainer_state=TrainerState(learner.step, config.training.max_steps),
            logged=logged,
        )
