"""Finds changes that make a recipe fit. They are tried in a fixed order, from the cheapest to the most drastic."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from vlm_r1.config import Config
from vlm_r1.planning.plan import Plan, least_total, make_plan
from vlm_r1.planning.prompts import PlannedPrompt

_MICRO_BATCH = "--training.max_tokens_per_micro_batch"

LARGEST = 65536
"""Largest micro-batch that is looked for, in positions: a GPU is busy with far fewer."""

_STEP = 256
"""Micro-batches are proposed in multiples of it."""

_LOOKS = 3
"""How many plans the search for a micro-batch may compute after the first two."""

Load = Callable[[Sequence[str]], Config]
"""Maps overrides, e.g. ["--grpo.beta=0"], to the recipe with them."""


@dataclass(frozen=True)
class Search:
    """The space that is searched.

    Attributes:
        load: loads the recipe with some overrides.
        prompt: every prompt is taken to be like this one.
        gpus: how many there are.
        limit: bytes that each of them has.
    """

    load: Load
    prompt: PlannedPrompt
    gpus: int
    limit: int
    _plans: dict[tuple[str, ...], Plan] = field(default_factory=dict[tuple[str, ...], Plan], repr=False)

    def plan(self, overrides: Sequence[str]) -> Plan:
        """Return what the recipe needs with these overrides; each plan is computed once."""
        key = tuple(overrides)
        if key not in self._plans:
            self._plans[key] = make_plan(self.load(key), self.prompt, self.gpus)
        return self._plans[key]

    def fits(self, plan: Plan) -> bool:
        """Return whether a GPU has enough memory for the plan."""
        return plan.total <= self.limit


@dataclass(frozen=True)
class Proposal:
    """Overrides that make a recipe fit, e.g. ("--model.gradient_checkpointing=true",), and the plan with them."""

    overrides: tuple[str, ...]
    plan: Plan


def propose(search: Search) -> Proposal | None:
    """Return the first change, in the order of `changes`, that makes a recipe fit; None if none does.

    Each change is tried by itself, then with all before it; each time with the recipe's micro-batch, then with smaller
    ones.
    """
    tried: list[str] = []
    for change in changes(search.load(())):
        tried += change
        for overrides in dict.fromkeys((tuple(change), tuple(tried))):
            if found := _fitting(search, overrides):
                return found
    return None


def changes(config: Config) -> Iterator[list[str]]:
    """List possible changes, as overrides: those that only cost time come first, those that change learning last.

    A smaller micro-batch may be combined with each of them. Trained weights in bfloat16 are not proposed, because they
    lose a step of 1e-6.
    """
    model = config.model
    yield [] if model.gradient_checkpointing else ["--model.gradient_checkpointing=true"]
    if config.training.mixed_precision == "no":
        yield ["--training.mixed_precision=bf16"]
    if model.freeze is None and not model.frozen:
        yield ["--model.freeze_vision_modules=true"]
    if config.grpo.beta and model.lora is None:
        yield ["--grpo.beta=0"]
    if model.lora is None:
        yield ["--model.lora={}"]
    if not model.load_in_4bit:
        yield ["--model.load_in_4bit=true"] if model.lora else ["--model.lora={}", "--model.load_in_4bit=true"]


def largest_micro_batch(search: Search, overrides: Sequence[str], plan: Plan) -> int | None:
    """Return the largest `max_tokens_per_micro_batch` with which a recipe fits, up to `LARGEST`; None if none fits.

    The search goes from one completion with its prompt, which is never cut, to a whole step. Memory grows almost
    linearly in between, so a line through two known points gives the next one to try.

    Args:
        plan: the plan of the recipe with these overrides.
    """

    def total(positions: int) -> int:
        return search.plan([*overrides, f"{_MICRO_BATCH}={positions}"]).total

    least, most = plan.lengths.least, max(plan.lengths.least, min(plan.whole_step, LARGEST))
    known = {min(max(plan.budget, least), most): plan.total}
    known |= {} if least in known else {least: total(least)}
    if known[least] > search.limit:
        return None
    for _ in range(_LOOKS):
        fitting = max(positions for positions, need in known.items() if need <= search.limit)
        guess = min(most, _crossing(known, fitting, search.limit) // _STEP * _STEP)
        if guess <= fitting:
            return fitting
        known[guess] = total(guess)
    return max(positions for positions, need in known.items() if need <= search.limit)


def _crossing(known: dict[int, int], fitting: int, limit: int) -> int:
    """Positions at which the line through the largest fitting point and its nearest neighbour reaches the limit."""
    others = sorted(known, key=lambda positions: (positions <= fitting, abs(positions - fitting)))
    other = next((positions for positions in others if positions != fitting), None)
    if other is None or known[other] == known[fitting]:
        return LARGEST
    rate = (known[other] - known[fitting]) / (other - fitting)
    return fitting + int((limit - known[fitting]) / rate)


def _fitting(search: Search, overrides: Sequence[str]) -> Proposal | None:
    if least_total(search.load(overrides), search.prompt.adapter) > search.limit:
        return None
    plan = search.plan(overrides)
    if search.fits(plan):
        return Proposal(tuple(overrides), plan)
    positions = largest_micro_batch(search, overrides, plan)
    if positions is None:
        return None
    overrides = (*overrides, f"{_MICRO_BATCH}={positions}")
    return Proposal(overrides, search.plan(overrides))
