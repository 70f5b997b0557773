"""Drawing completions: one protocol, interchangeable engines."""

from vlm_r1.sampling.base import Sampler, SamplingParams, completion_seed, greedy

__all__ = ["Sampler", "SamplingParams", "completion_seed", "greedy"]
