"""Makes groups of judged completions from records, for training (n = G) and evaluation (n = 1 by default) alike."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from vlm_r1.rewards.base import UNTRAINED, TrainerState
from vlm_r1.rewards.call import Logged
from vlm_r1.rollouts.env import Env
from vlm_r1.runtime.phases import Phases
from vlm_r1.sampling.base import Sampler, SamplingParams, completion_seed
from vlm_r1.types import EncodedPrompt, Group, Record, Rollout


def sample_groups(
    records: Sequence[Record],
    env: Env,
    sampler: Sampler,
    params: SamplingParams,
    *,
    n: int,
    run_seed: int,
    draws: Sequence[int] | None = None,
    phases: Phases,
    add_features: Callable[[Sequence[EncodedPrompt]], Sequence[EncodedPrompt]] = lambda prompts: prompts,
    trainer_state: TrainerState = UNTRAINED,
    logged: Logged | None = None,
) -> list[Group]:
    """Encode each prompt once, draw n completions of it and judge each; returns groups, whose advantages are still 0.

    Args:
        n: completions of each prompt.
        run_seed: together with draw, record and number, it seeds each completion (`completion_seed`).
        draws: for each record, how many records the run drew before it; None: 0 for all, if each record comes once.
        phases: measures the seconds of "encode", "sample" and "score".
        add_features: adds image features to the prompts, if a frozen vision part computes them only once.
        trainer_state: how far training is; rewards may use it.
        logged: collects the metrics that rewards log.
    """
    with phases("encode"):
        encoded = add_features([env.encode(record) for record in records])
    with phases("sample"):
        numbered = zip(draws or [0] * len(records), records, strict=True)
        seeds = [[completion_seed(run_seed, draw, record, g) for g in range(n)] for draw, record in numbered]
        completions_P_G = sampler.sample(encoded, seeds, params)
    with phases("score"):
        answered = [
            (record, prompt, completion)
            for record, prompt, completions_G in zip(records, encoded, completions_P_G, strict=True)
            for completion in completions_G
        ]
        scores = iter(env.judge(answered, trainer_state, logged))
        return [
            Group(record, prompt, tuple(Rollout(completion, next(scores)) for completion in completions_G))
            for record, prompt, completions_G in zip(records, encoded, completions_P_G, strict=True)
        ]
