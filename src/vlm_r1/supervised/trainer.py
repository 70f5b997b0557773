"""Supervised fine-tuning on the same records, prompts and budget as GRPO: the warm start, and the paper's baseline."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import torch

from vlm_r1.config import Config
from vlm_r1.policy.logprobs import CompletionBatch, TokenLogProbs
from vlm_r1.runtime.metrics import Metric, ratio
from vlm_r1.runtime.progress import Display
from vlm_r1.training.callbacks import Callback, check_callbacks
from vlm_r1.training.diagnosis import Suspect, find_cause
from vlm_r1.training.learner import Learner
from vlm_r1.training.new_run import Resume
from vlm_r1.training.run import open_training
from vlm_r1.training.trust import check_gold


def train_sft(
    config: Config,
    *,
    resume: Resume = False,
    allow: Sequence[str] = (),
    display: Display | None = None,
    callbacks: Sequence[Callback] = (),
) -> dict[str, Any]:
    """Minimise −log p(gold completion) per token, at temperature 1; returns the content of `summary.json`.

    The recipe's sections `grpo` and `sampling` and its reward weights belong to `train`, but evaluations use
    `sampling.engine` and `sampling.max_completion_length`, and with several answers to each record the whole section
    `sampling`. Everything else means the same.

    Args:
        resume, allow, callbacks: see `grpo.trainer.train`.

    Raises:
        VlmR1Error: something is wrong with the recipe, the data, the model or the run folder; before any training.
    """
    callbacks = check_callbacks(callbacks)
    run = open_training(config, stage="sft", resume=resume, display=display, allow=allow)
    run.callbacks = callbacks
    learner = run.learner
    end = run.env.adapter.answer_end(learner.model)
    with run.steps() as (steps, show):
        for phases in steps:
            with phases("encode"):
                _, records = run.next_records()
                encoded = [run.env.encode(record) for record in records]
                gold = [[run.env.gold_ids(r, e, end)] for r, e in zip(records, encoded, strict=True)]
            batch = CompletionBatch(encoded, gold)
            run.check_trust(partial(check_gold, records, batch, learner, run.env), phases)
            with phases("policy"):
                metrics = _update(batch, [record.source for record in records], learner)
            numbers = run.reduce(metrics, phases)
            run.finish_step(numbers)
            show(1, [f"loss {numbers['loss']:.2f}"])
    return run.finish()


def _update(batch: CompletionBatch, sources: Sequence[str], learner: Learner) -> dict[str, Metric]:
    """Take one optimizer step on the mean loss per gold token of all processes; returns metrics."""
    own_tokens = sum(len(ids_T) for ids_G_T in batch.ids_P_G_T for ids_T in ids_G_T)
    tokens: int = sum(learner.gather([own_tokens]))
    micro_batches = learner.micro_batches(batch)
    loss_sum = entropy_sum = 0.0
    for micro in micro_batches:
        scored = learner.score(micro.batch)
        loss = -scored.logprobs_NT.sum()
        learner.backward(loss / tokens)
        loss_sum += float(loss.detach())
        entropy_sum += float(scored.entropies_NT.sum())
    norm = learner.update(loss_sum, lambda: find_cause(learner.bare_policy, _suspects(batch, sources, learner)))
    return {
        "loss": ratio(loss_sum, own_tokens),
        "entropy": ratio(entropy_sum, own_tokens),
        "completions/mean_length": ratio(own_tokens, len(batch.prompts)),
        **learner.update_metrics([norm]),
        "tokens/policy": Metric("sum", sum(micro.positions for micro in micro_batches)),
    }


def _suspects(batch: CompletionBatch, sources: Sequence[str], learner: Learner) -> Iterator[Suspect]:
    """Yield each gold answer of an update by itself, to find out why its loss is not finite."""
    for n, source in enumerate(sources):
        one = batch.one(n)

        def compute(one: CompletionBatch = one) -> tuple[TokenLogProbs, torch.Tensor]:
            learner.seed_passes()
            scored = learner.score(one)
            return scored, -scored.logprobs_NT.sum()

        yield Suspect(source, [learner.adapter.decode([token]) for token in one.ids_P_G_T[0][0]], compute, {})
