"""A sampler that replays given texts: whole flows run without a policy that must be trained first."""

from __future__ import annotations

from collections.abc import Sequence

from vlm_r1.models.adapter import Adapter
from vlm_r1.sampling.base import SamplingParams
from vlm_r1.types import Completion, EncodedPrompt, StopReason


class ScriptedSampler:
    """Answers prompts in turn with `texts_P_G`: a completion is a text and a stop token, log-probabilities are 0."""

    def __init__(self, texts_P_G: Sequence[Sequence[str]], adapter: Adapter):
        self._remaining = list(texts_P_G)
        self._adapter = adapter
        self._version = 0

    def sync(self, version: int) -> None:
        """See `Sampler.sync`. Texts have no weights, so only the number changes."""
        self._version = version

    def sample(
        self, prompts: Sequence[EncodedPrompt], seeds_P_G: Sequence[Sequence[int]], params: SamplingParams
    ) -> list[list[Completion]]:
        """See `Sampler.sample`. Texts longer than the cap are cut, as a real sampler would cut them."""
        replies, self._remaining = self._remaining[: len(prompts)], self._remaining[len(prompts) :]
        return [
            [self._completion(text, params.max_completion_length) for text, _ in zip(texts_G, seeds_G, strict=True)]
            for texts_G, seeds_G in zip(replies, seeds_P_G, strict=True)
        ]

    def _completion(self, text: str, limit: int) -> Completion:
        ids = (*self._adapter.tokenize(text), self._adapter.tokenizer.eos_token_id)
        if len(ids) <= limit:
            return Completion.sampled(ids, (0.0,) * len(ids), text, StopReason.STOP, self._version)
        text = self._adapter.decode(ids[:limit])
        return Completion.sampled(ids[:limit], (0.0,) * limit, text, StopReason.LENGTH, self._version)
