"""How a gold answer ends: as the chat template ends it, with a token that sampling stops at."""

from __future__ import annotations

import pytest

from testing_families import FAMILIES


@pytest.mark.parametrize("family", FAMILIES)
def test_gold_answers_end_as_the_template_ends_them_and_as_sampling_stops(
    family: str, family_adapter, family_model64
) -> None:
    adapter, model = family_adapter(family), family_model64(family)
    end = adapter.answer_end(model)
    assert end in adapter.stop_ids(model)
    assert adapter.tokenizer.convert_ids_to_tokens(end) == adapter.turn_end


def test_gemma_ends_a_turn_not_the_text(family_adapter, family_model64) -> None:
    adapter, model = family_adapter("gemma3"), family_model64("gemma3")
    assert adapter.tokenizer.eos_token == "<eos>"
    assert adapter.tokenizer.convert_ids_to_tokens(adapter.answer_end(model)) == "<end_of_turn>"
    model.generation_config.eos_token_id = adapter.tokenizer.eos_token_id  # a checkpoint that names only this one
    assert adapter.answer_end(model) == adapter.tokenizer.eos_token_id
    model.generation_config.eos_token_id = [7, 8]
    assert adapter.answer_end(model) == 7
