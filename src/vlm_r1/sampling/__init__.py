"""Draws completions: one protocol and interchangeable engines."""

from vlm_r1.sampling.base import Sampler, SamplingParams, completion_seed, greedy

__all__ = ["Sampler", "SamplingParams", "completion_seed", "greedy"]
