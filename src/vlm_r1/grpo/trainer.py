"""The GRPO trainer, from top to bottom."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from vlm_r1.config import Config
from vlm_r1.errors import ConfigError
from vlm_r1.grpo.advantage import get_advantages
from vlm_r1.grpo.collect import collect_groups
from vlm_r1.grpo.completions import log_completions
from vlm_r1.grpo.headline import headline
from vlm_r1.grpo.loss import get_loss
from vlm_r1.grpo.parts import check_parts
from vlm_r1.grpo.reference import Reference, check_sync
from vlm_r1.grpo.update import assign_advantages, rollout_metrics, update_policy
from vlm_r1.rewards.call import Logged
from vlm_r1.runtime.metrics import ratio, reduce_metrics
from vlm_r1.runtime.progress import Display
from vlm_r1.runtime.rollout_log import rollouts_path, write_rollouts
from vlm_r1.sampling import SamplingParams
from vlm_r1.training.callbacks import Callback, check_callbacks
from vlm_r1.training.differences import MEAN_TOLERANCE
from vlm_r1.training.new_run import Resume
from vlm_r1.training.run import open_training
from vlm_r1.training.steps import TrainingRun
from vlm_r1.training.stopping import n_launched
from vlm_r1.training.trust import check_sampled
from vlm_r1.types import Group


def train(
    config: Config,
    *,
    resume: Resume = False,
    allow: Sequence[str] = (),
    display: Display | None = None,
    callbacks: Sequence[Callback] = (),
) -> dict[str, Any]:
    """Run a recipe: evaluate, take `max_steps` steps of GRPO, evaluate again; returns the content of `summary.json`.

    A step: draw prompts, sample G completions of each, judge them, compare them within their group, update the policy.
    Everything is written to `config.output_dir` (docs/runs.md).

    Args:
        resume: continue the run that is in `output_dir` from its newest checkpoint, as if it had never stopped; "auto":
            if there is one, else start it.
        allow: options that may then have other values than before, e.g. ["training.max_steps"].
        callbacks: functions that the first process calls at the end of each step, while the others wait.

    Raises:
        VlmR1Error: something is wrong with the recipe, the data, the model or the run folder; before any training.
    """
    callbacks = check_callbacks(callbacks)
    check_objective(config)
    run = open_training(config, stage="grpo", resume=resume, display=display, allow=allow)
    run.callbacks = callbacks
    learner = run.learner
    start = run.start.checkpoint
    reference = Reference(run.config, run.env.adapter, learner, start) if config.grpo.beta else None
    params = SamplingParams.of(config.sampling)
    warned = (params.top_p, params.top_k, params.min_p) != (1.0, 0, 0.0)
    judged = True  # whether all completions had a reward so far
    with run.steps() as (steps, show):
        if warned:
            run.display.say(_CUT, style="yellow")
        for phases in steps:
            logged = Logged()
            groups, fallback_group, metrics, places = collect_groups(run, params, phases, logged)
            groups = assign_advantages(groups, config, learner)
            with phases("log"):
                of_all = _log_rollouts(run, groups)
            scored_by = reference.logprobs_NT if reference is not None else None
            checked = groups or [fallback_group]
            run.check_trust(partial(check_sampled, checked, learner, run.env, run.sampler, params, scored_by), phases)
            metrics |= update_policy(groups, fallback_group, learner, reference, phases, places=places)
            if reference is not None:
                reference.mix(learner.step + 1)
            metrics |= rollout_metrics(groups)
            numbers = run.reduce(metrics, phases)
            numbers |= _logged_by_rewards(logged, numbers, learner.gather)
            judged = judged and not _warn_of_the_unjudged(numbers, run)
            log_completions(run, of_all)
            run.finish_step(numbers, of_all)
            warned = warned or _warn_of_the_sampler(numbers, run)
            show(1, headline(numbers, config))
    return run.finish()


def check_objective(config: Config) -> None:
    """Import the loss and the advantages that the recipe names, and check that its options suit them.

    Raises:
        ConfigError: a name cannot be imported, an option makes no sense with the loss, or a step cannot be cut evenly.
    """
    check_parts(config, n_launched())
    get_advantages(config.grpo.scale_rewards)
    check_sync(config)
    try:
        config.grpo.check_limits(get_loss(config.grpo.loss_type))
    except ValueError as error:
        raise ConfigError(f"grpo: {error}") from error


_CUT = (
    "top_p, top_k or min_p cuts what is sampled, but the policy that trains is the uncut one: "
    "sampling/sampling_logp_difference in metrics.jsonl is how far they are apart"
)


def _warn_of_the_sampler(numbers: Mapping[str, float], run: TrainingRun) -> bool:
    """Warn if tokens were sampled with other log-probabilities than the policy's; returns whether it warned."""
    gap = numbers.get("sampling/sampling_logp_difference/mean", 0.0)
    learner = run.learner
    dtype = learner.setup.precision.computing_in(learner.adapter.unwrap(learner.model))
    if gap <= MEAN_TOLERANCE[dtype]:
        return False
    run.display.say(
        f"step {run.learner.step}: the sampler's log-probabilities differ from the policy's by {gap:.2g} a "
        "token: is it dropout, or a sampler that is not the policy?",
        style="yellow",
    )
    return True


def _logged_by_rewards(logged: Logged, numbers: Mapping[str, float], gather: Callable[..., Any]) -> dict[str, float]:
    """Return the means of the metrics that rewards logged, over the calls of all processes, by name.

    Raises:
        ConfigError: a name is already that of a metric of ours.
    """
    means = reduce_metrics({name: ratio(math.fsum(v), len(v)) for name, v in logged.items()}, gather)
    taken = [name for name in means if name in (*numbers, "step", "stage") or name.startswith("eval/")]
    if taken:
        raise ConfigError(f'a reward logs the metric "{taken[0]}", which is one of ours (docs/runs.md): rename it')
    return means


def _warn_of_the_unjudged(numbers: Mapping[str, float], run: TrainingRun) -> bool:
    """Warn if completions of the step have no reward; returns whether it warned."""
    if "reward/left_out" not in numbers:
        return False
    run.display.say(
        f"step {run.learner.step + 1}: {numbers['reward/left_out']:.0f} completions have no reward, because "
        "every component left them out (None): nothing is learnt from them. metrics.jsonl counts them as "
        "reward/left_out",
        style="yellow",
    )
    return True


def _log_rollouts(run: TrainingRun, groups: list[Group]) -> list[Group]:
    """Write the completions of all processes, without pixels, and return their groups."""
    step = run.learner.step + 1
    everyone = run.learner.gather([group.light() for group in groups])
    if run.learner.accelerator.is_main_process:
        run.folder.check_in_place()
        write_rollouts(rollouts_path(run.folder.path, step), step, everyone)
    return everyone
