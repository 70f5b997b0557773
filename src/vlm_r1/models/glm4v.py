"""GLM-4.1V, GLM-4.5V, GLM-4.6V and GLM-GA: one `<|image|>` per merged patch, answers in boxes."""

from __future__ import annotations

from vlm_r1.errors import ModelError
from vlm_r1.models.patch_grid import PatchGrid
from vlm_r1.types import BoxFormat


class Glm4v(PatchGrid):
    """Coordinates from 0 to 1000 (GLM-4.1V report, section 3.2), the answer between `<|begin_of_box|>` and its end.

    The two are left out of decoded texts, so that an answer is read like any other family's.
    """

    box_format = BoxFormat.NORM_1000
    projector_modules = ("model.visual.downsample", "model.visual.merger")
    placeholder = "<|image|>"
    control_tokens = (
        "image_token_id",
        "video_token_id",
        "image_start_token_id",
        "image_end_token_id",
        "video_start_token_id",
        "video_end_token_id",
    )
    answer_wrappers = ("<|begin_of_box|>", "<|end_of_box|>")

    def check(self, source: str) -> None:
        super().check(source)
        # GLM-GA's processors read it, but only the one of torchvision obeys, and none counts tokens by it
        if (factor := getattr(self.image_processor, "patch_expand_factor", 1)) != 1:
            raise ModelError(
                f"{source}: the image processor has patch_expand_factor {factor}, by which transformers' processors "
                "differ: set it to 1 in preprocessor_config.json"
            )

    @property
    def _frames_per_image(self) -> int:
        return self.image_processor.temporal_patch_size
