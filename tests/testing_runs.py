"""What tests of runs share: the groups of an opened run's next step, as its trainer samples them; rows to compare."""

from __future__ import annotations

from vlm_r1.rollouts.groups import sample_groups
from vlm_r1.runtime.phases import Phases
from vlm_r1.sampling import SamplingParams
from vlm_r1.training.steps import TrainingRun
from vlm_r1.types import Group


def sample_step(run: TrainingRun, params: SamplingParams) -> list[Group]:
    """Four completions of each of the next records."""
    draws, records = run.next_records()
    run.sampler.sync(run.learner.step)
    with run.learner.autocast_for_sampling():
        return sample_groups(
            records,
            run.env,
            run.sampler,
            params,
            n=4,
            run_seed=0,
            draws=draws,
            phases=Phases(),
            add_features=run.learner.with_features,
        )


def untimed(metrics: list[dict]) -> list[dict]:
    """Rows of metrics without what depends on the clock."""
    return [{k: v for k, v in row.items() if not k.startswith(("time/", "tokens_per_s/"))} for row in metrics]
