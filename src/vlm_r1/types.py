"""The nouns, in the order in which a record flows through a training step.

Record → Prompt → EncodedPrompt → Completion → Score → Rollout → Group. All are frozen: a stage takes values and returns
new ones.
Axes: P prompts, G completions of one prompt, T completion tokens, L prompt tokens, N boxes. Boxes are float `xyxy` in
pixels of the original image everywhere inside the package. Gold boxes in other units are converted when a file is read
(`data/coordinates.py`); a model's boxes are converted in `geometry/frames.py`.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Generic, Literal, NamedTuple, TypeVar

if TYPE_CHECKING:
    import torch
    from PIL.Image import Image

V = TypeVar("V")

Box = tuple[float, float, float, float]
"""`(x1, y1, x2, y2)` with x1 ≤ x2 and y1 ≤ y2; the area is (x2 − x1)(y2 − y1), without "+1"."""

Point = tuple[float, float]
"""`(x, y)`, in the same coordinates as a Box."""


class PlacedBox(NamedTuple):
    """A box, and the index of the image of its record on which it lies: 0 is the first, -1 the last."""

    box: Box
    image: int


AnswerValue = str | int | float | bool | None | list["AnswerValue"] | dict[str, "AnswerValue"]
"""A gold answer as the data has it: any JSON value, e.g. `[10, 20, 110, 220]` or `"No Defect"`."""

IMAGE_TOKEN = "<image>"
"""Marks the place of one image in a problem text, in data files and in prompts."""


class Turn(NamedTuple):
    """An earlier message of a conversation, e.g. `Turn("user", "<image>How many?")`; only the user's have images."""

    role: Literal["user", "assistant"]
    text: str


class BoxFormat(enum.Enum):
    """The coordinates in which a model family writes boxes."""

    ORIGINAL_PIXELS = "original_pixels"  # xyxy, pixels of the image on disk
    INPUT_PIXELS = "input_pixels"  # xyxy, pixels of the image after the processor's resize (Qwen2.5-VL)
    NORM_1000 = "norm_1000"  # xyxy, 0–1000 of width and height (Qwen2-VL, Qwen3-VL, InternVL, GLM)
    NORM_1000_YX = "norm_1000_yx"  # yxyx, 0–1000 (Gemma, PaliGemma)
    NORM_1 = "norm_1"  # xyxy, 0–1 of width and height, with three decimals (LLaVA)


@dataclass(frozen=True)
class ImageFrame:
    """How big an image is and how big the model sees it: (width, height) in pixels, e.g. (640, 480) and (644, 476)."""

    original_wh: tuple[int, int]
    input_wh: tuple[int, int]


@dataclass(frozen=True)
class Record:
    """One example of a data set.

    Attributes:
        id: unique within its source, e.g. "17".
        task: name of the task that asks and judges, e.g. "rec".
        problem: what is asked, with one `<image>` for each image, e.g. "<image>the man on the left".
        images: absolute paths, in the order of their `<image>`, those of earlier turns first; may be empty.
        answer: the gold answer, as in the file, boxes in pixels of the original image, e.g. [10, 20, 110, 220].
        thought: gold reasoning, if the data has any (used by SFT), e.g. "The man wears a hat."
        reward: name of the accuracy reward for this record, or None for the task's own. It may run code: a name out of
            data (`accu_reward_method`) has passed `registry.name_from_data`.
        source: file and line, e.g. "refcoco_train.jsonl:1234"; errors start with it.
        template: name of the template that asks, or None for the recipe's.
        system: the system message that it is asked with: of its line, else of its source or recipe; None: none.
        columns: the other keys of its line, unchanged, e.g. {"difficulty": 0.4}; for users' own rewards.
        row: its whole line, unchanged; for rewards of TRL's signature.
        history: earlier turns of its line, oldest first; they are given, and the answer to `problem` is judged.
    """

    id: str
    task: str
    problem: str
    images: tuple[str, ...]
    answer: AnswerValue
    thought: str | None = None
    reward: str | None = None
    source: str = ""
    template: str | None = None
    system: str | None = None
    columns: Mapping[str, AnswerValue] = field(default_factory=dict[str, AnswerValue])
    row: Mapping[str, AnswerValue] = field(
        default_factory=dict[str, AnswerValue], kw_only=True, repr=False, compare=False
    )
    history: tuple[Turn, ...] = field(default=(), kw_only=True)

    @property
    def question_images(self) -> tuple[str, ...]:
        """The images of the question itself, without those of earlier turns."""
        return self.images[sum(turn.text.count(IMAGE_TOKEN) for turn in self.history) :]

    @property
    def context(self) -> list[dict[str, str]]:
        """The messages before the question: {"role", "content"} of the system message and of each earlier turn."""
        system = [{"role": "system", "content": self.system}] if self.system else []
        return [*system, *({"role": turn.role, "content": turn.text} for turn in self.history)]


@dataclass(frozen=True)
class Prompt:
    """A conversation that ends in the user's turn.

    Attributes:
        text: the user's turn, with one `<image>` for each of its images.
        images: paths of the images of all turns, in order.
        system: the system message; None: none, so that the chat template may write its own.
        history: the turns before, user and assistant by turns, oldest first.
    """

    text: str
    images: tuple[str, ...]
    system: str | None = None
    history: tuple[Turn, ...] = ()

    @property
    def turns(self) -> tuple[Turn, ...]:
        """All turns but the system's, the question last."""
        return (*self.history, Turn("user", self.text))


@dataclass(frozen=True)
class EncodedPrompt:
    """A prompt as a model takes it.

    Attributes:
        ids_L: token ids, image placeholders expanded, e.g. (151644, 872, 198, …).
        vision: the family's own image arguments, e.g. {"pixel_values": (patches, 1176), "image_grid_thw": (images, 3)}.
        frames: one frame for each image, in order.
        text: the rendered chat text, placeholders unexpanded, for people to read.
        features: the features of each image, (tokens, H), if the vision part is frozen, so that they are computed once;
            None: not computed.
        template: name of the template that put the question, e.g. "r1".
        box_format: the coordinates in which answers are written.
        load_images: reads the pictures again, for `images`: kept, they would fill the memory of a large evaluation.

    `Adapter.encode` fills the first four fields; `rollouts.env.Env` fills template, box_format and images.
    """

    ids_L: tuple[int, ...]
    vision: Mapping[str, torch.Tensor] = field(repr=False)
    frames: tuple[ImageFrame, ...]
    text: str
    features: tuple[torch.Tensor, ...] | None = field(default=None, repr=False)
    template: str = ""
    box_format: BoxFormat = BoxFormat.ORIGINAL_PIXELS
    load_images: Callable[[], tuple[Image, ...]] = field(default=tuple, repr=False, compare=False)

    @property
    def images(self) -> tuple[Image, ...]:
        """The pictures as the model sees them, RGB, in order; see `Adapter.as_seen`. They are loaded when asked for."""
        return self.load_images()


class Thinking(enum.Enum):
    """The form of completion that a template asks for: with a thought before the answer, or without."""

    REQUIRED = "required"  # <think>…</think><answer>…</answer>
    FREE = "free"  # <answer>…</answer>, with or without <think>…</think> before it
    ABSENT = "absent"  # the bare answer, no tags


class StopReason(enum.Enum):
    """Why sampling ended: a stop token was drawn, the length cap was hit, or a server gave no answer on purpose."""

    STOP = "stop"
    LENGTH = "length"
    REFUSED = "refused"  # by a server's filter; a model of ours never does


@dataclass(frozen=True)
class Segment:
    """A run of tokens that the policy sampled, or that it was given between two such runs, e.g. a tool's answer.

    Attributes:
        ids_T: token ids; a sampled segment ends with its stop token, if one was drawn. Never empty.
        logprobs_T: natural-log probability of each token under the distribution it was drawn from, e.g. (-0.02, -1.3);
            None: the tokens were given, so nothing is learnt from them.
    """

    ids_T: tuple[int, ...]
    logprobs_T: tuple[float, ...] | None

    def __post_init__(self) -> None:
        if self.logprobs_T is not None and len(self.logprobs_T) != len(self.ids_T):
            raise ValueError(f"{len(self.ids_T)} tokens have {len(self.logprobs_T)} log-probabilities")


@dataclass(frozen=True)
class Completion:
    """One answer to a prompt.

    >>> one = Completion((Segment((5, 6), (-0.5, -0.1)), Segment((9,), None)), "a tool said 9", StopReason.LENGTH)
    >>> one.ids_T, one.logprobs_T, one.sampled_T
    ((5, 6, 9), (-0.5, -0.1, 0.0), (True, True, False))

    Attributes:
        segments: its tokens in order, at least one segment.
        text: its tokens, decoded without special tokens.
        stop_reason: why the last segment ended.
        version: of the weights that sampled it, the number of finished steps.
        counted: its sampled tokens as a server counted them, which may have read it by other ids; None: ours.
    """

    segments: tuple[Segment, ...]
    text: str
    stop_reason: StopReason
    version: int = 0
    counted: int | None = None

    @classmethod
    def sampled(
        cls, ids_T: Iterable[int], logprobs_T: Iterable[float], text: str, stop_reason: StopReason, version: int = 0
    ) -> Completion:
        """A completion of one sampled segment."""
        return cls((Segment(tuple(ids_T), tuple(logprobs_T)),), text, stop_reason, version)

    @property
    def ids_T(self) -> tuple[int, ...]:
        """Token ids of all segments."""
        return tuple(token for segment in self.segments for token in segment.ids_T)

    @property
    def length(self) -> int:
        """Number of sampled tokens, the stop token included."""
        return sum(self.sampled_T) if self.counted is None else self.counted

    @property
    def sampled_T(self) -> tuple[bool, ...]:
        """True for each token that the policy sampled, False for each that it was given."""
        return tuple(segment.logprobs_T is not None for segment in self.segments for _ in segment.ids_T)

    @property
    def logprobs_T(self) -> tuple[float, ...]:
        """Log-probability of each token, in nats; 0.0 for tokens that were given."""
        return tuple(x for segment in self.segments for x in segment.logprobs_T or (0.0,) * len(segment.ids_T))


@dataclass(frozen=True)
class Parsed(Generic[V]):
    """A value that was read out of a text, e.g. `Parsed((10.0, 20.0, 110.0, 220.0))`."""

    value: V


@dataclass(frozen=True)
class ParseFailure:
    """The reason why nothing could be read, a short slug that can be counted, e.g. `ParseFailure("no_answer_tag")`."""

    reason: str


@dataclass(frozen=True)
class Score:
    """The judgement of one completion.

    Attributes:
        reward: the components combined; advantages are computed from it. None: all components left the completion out.
        parts: the components by name, unweighted, e.g. {"accuracy": 0.71, "format": 1.0}; None: left out.
        answer: the parsed answer as JSON, boxes in original pixels, or None if nothing could be parsed.
        reason: why parsing failed (a slug of ParseFailure), or None.
        metrics: the task's evaluation numbers, e.g. {"accuracy_iou50": 1.0, "iou": 0.71}.
        extra: values that rewards logged with TRL's `log_extra`, by name.
    """

    reward: float | None
    parts: Mapping[str, float | None]
    answer: AnswerValue
    reason: str | None
    metrics: Mapping[str, float]
    extra: Mapping[str, AnswerValue] = field(default_factory=dict[str, AnswerValue])


@dataclass(frozen=True)
class Rollout:
    """One completion with its judgement and its advantage within the group (0.0 until advantages are computed)."""

    completion: Completion
    score: Score
    advantage: float = 0.0


@dataclass(frozen=True)
class Group:
    """The unit of work: one record, its prompt encoded once, and G rollouts of it."""

    record: Record
    encoded: EncodedPrompt
    rollouts: tuple[Rollout, ...]

    def light(self) -> Group:
        """The group without pixels and without the line of its file: to send it to another process, or to write it."""
        encoded = replace(self.encoded, vision={}, features=None, load_images=tuple)
        return replace(self, encoded=encoded, record=replace(self.record, row={}))
