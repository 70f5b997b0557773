"""What tests of runs share: the judged groups of an opened run's next step, as its trainer would sample them."""

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
