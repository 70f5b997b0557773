"""The prompt that a plan assumes: the longest of a recipe's data, or a made-up one."""

from __future__ import annotations

from dataclasses import dataclass

from PIL import Image

from vlm_r1.config import Config
from vlm_r1.data.sources import evenly, load_sources
from vlm_r1.models import Adapter, adapter_of
from vlm_r1.training.overlong import fitting
from vlm_r1.training.run import load_env
from vlm_r1.types import IMAGE_TOKEN, EncodedPrompt, Prompt

_MEASURED_RECORDS = 1000


@dataclass(frozen=True)
class PlannedPrompt:
    """A prompt, encoded by the adapter of the recipe's model."""

    adapter: Adapter
    encoded: EncodedPrompt

    @property
    def image_tokens(self) -> int:
        """Number of placeholder tokens, one for each image feature."""
        return self.encoded.ids_L.count(self.adapter.placeholder_id)


def longest_prompt(config: Config) -> PlannedPrompt:
    """Return the longest of at most 1,000 prompts of the training data, evenly drawn.

    Lengths come from the texts and the headers of the images.

    Raises:
        DataError, ConfigError, ModelError: the same as in training, about data, template or checkpoint.
    """
    found = load_sources(config.data.train_sources, config.allowed, seed=config.seed)
    records = evenly(found, _MEASURED_RECORDS)
    env = load_env(config, ())
    return PlannedPrompt(env.adapter, env.encode(max(fitting(records, env, config), key=env.prompt_length)))


def made_up_prompt(config: Config, image_wh: tuple[int, int], images: int, text_tokens: int) -> PlannedPrompt:
    """Make a prompt of `images` images of one size and `text_tokens` short words of one token.

    Args:
        config: only its model, its system prompt and its template's switches are used.
        image_wh: (width, height) in pixels.

    Raises:
        DataError, ModelError: no such image can be encoded; no checkpoint there.
    """
    adapter = adapter_of(config.model, chat_template_kwargs=config.data.chat_template_kwargs)
    prompt = Prompt(IMAGE_TOKEN * images + " a" * text_tokens, ("made up",) * images, config.data.system_prompt)
    return PlannedPrompt(adapter, adapter.encode(prompt, [Image.new("RGB", image_wh)] * images))
