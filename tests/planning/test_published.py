"""The shapes of published models have as many parameters as the models."""

from __future__ import annotations

from pathlib import Path

import pytest

from vlm_r1.config.model import ModelSection
from vlm_r1.models import load_adapter
from vlm_r1.models.loading import empty_model
from vlm_r1.models.parts import size_by_part
from vlm_r1.planning.published import PUBLISHED, write_published


@pytest.mark.parametrize("name", PUBLISHED)
def test_parameters_and_image_tokens(name: str, tmp_path: Path) -> None:
    folder = write_published(name, tmp_path / "model", ["the small red circle"] * 4)
    assert not list(folder.glob("*.safetensors"))
    adapter = load_adapter(folder)
    sizes = size_by_part(empty_model(ModelSection(path=str(folder)), adapter), adapter)
    assert sum(size.parameters for size in sizes) == PUBLISHED[name].parameters
    # 640 x 480: 23 x 17 squares of 28 pixels, or 20 x 15 of 32
    assert adapter.image_tokens(640, 480) == (23 * 17 if "2.5" in name else 20 * 15)
