"""The factor of the loss where passes compute in float16, whose smallest number is 6e-8: smaller gradients vanish."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from vlm_r1.errors import CheckpointError
from vlm_r1.parsing.json_values import is_object

FIRST = 65536.0
"""The first scale, as in torch's GradScaler."""

GROWTH_UPDATES = 2000
"""After this many updates in a row with a finite gradient the scale doubles, as in torch's GradScaler."""


class LossScale:
    """Looks for a scale whose gradients fit into float16 (Micikevicius et al., arXiv 1710.03740).

    It decides as torch's GradScaler does, by one gradient for all optimizers, which is summed over all processes. So
    all processes decide the same, and optimizers need not know of it. It stops at 1, where nothing is scaled.

    Attributes:
        scale: the factor of the next loss, a power of two: scaling rounds nothing but numbers out of range.
        updates: how many updates in a row had a finite gradient since the scale last changed.
    """

    def __init__(self, scale: float = FIRST, updates: int = 0):
        self.scale, self.updates = scale, updates

    @torch.no_grad()
    def unscale(self, parameters: Iterable[nn.Parameter]) -> None:
        """Divide gradients by the scale, in place."""
        for parameter in parameters:
            if parameter.grad is not None:
                parameter.grad.div_(self.scale)

    def scaled(self, loss: Tensor) -> Tensor:
        return loss * self.scale

    def adapt(self, finite: bool) -> bool:
        """Adapt to an update whose losses were finite.

        Args:
            finite: whether its gradient was.

        Returns:
            Whether the scale was too large, as far as one knows, and was lowered. False for a finite gradient, and for
            one that is not, at scale 1.
        """
        if finite:
            self.updates += 1
            if self.updates == GROWTH_UPDATES:
                self.scale, self.updates = 2 * self.scale, 0
            return False
        lowers = self.scale > 1
        self.scale, self.updates = max(self.scale / 2, 1.0), 0
        return lowers

    def state_dict(self) -> dict[str, float]:
        """Return the state as JSON."""
        return {"scale": self.scale, "updates": self.updates}

    def load_state_dict(self, state: Any) -> None:
        """Load what `state_dict` returned; None, of a checkpoint of passes in another type, starts anew.

        Raises:
            CheckpointError: it is something else.
        """
        if state is None:
            return
        scale, updates = (state.get("scale"), state.get("updates")) if is_object(state) else (None, None)
        if type(scale) is not float or not scale >= 1 or type(updates) is not int or not 0 <= updates < GROWTH_UPDATES:
            raise CheckpointError(f"trainer.json: loss_scale is {state!r:.100}, wanted scale and updates")
        self.scale, self.updates = scale, updates
