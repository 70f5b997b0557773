"""Makes groups of judged completions of a model on a server, as `groups.py` does of one in this process.

The questions, the pictures, their sizes and the reading of boxes are those of the model's own adapter. A picture is
sent as the model sees it, already resized, so that boxes in its pixels are right whatever the server's limits are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from queue import SimpleQueue
from threading import Event, Thread
from typing import NamedTuple, TypeVar

from vlm_r1.errors import VlmR1Error
from vlm_r1.models.adapter import Adapter
from vlm_r1.parsing.tags import THINK
from vlm_r1.rewards.base import UNTRAINED, TrainerState
from vlm_r1.rollouts.env import Env
from vlm_r1.sampling.base import SamplingParams, completion_seed
from vlm_r1.sampling.endpoint import Endpoint, Say, ask
from vlm_r1.sampling.endpoint_chat import Reply, chat_messages
from vlm_r1.types import Completion, EncodedPrompt, Group, Record, Rollout, Score, StopReason

J = TypeVar("J")
R = TypeVar("R")

REFUSED = "refused"
"""The reason why nothing could be read if the server gave no answer on purpose."""


class _Question(NamedTuple):
    place: int
    number: int  # of the answer within its group
    record: Record
    encoded: EncodedPrompt


@dataclass(frozen=True)
class RemoteModel:
    """A model on a server, and how it is asked.

    Attributes:
        env: with the adapter of the served model, which needs no weights.
        params: how answers are drawn.
        n: answers to each record; each is asked for by itself, since few servers can give several.
        run_seed: together with record and number it seeds each answer, as `sample_groups` does.
        trainer_state: how far training is; rewards may use it.
        say: gets lines about attempts that failed, and doubts; called from several threads.
    """

    env: Env
    endpoint: Endpoint
    params: SamplingParams
    n: int = 1
    run_seed: int = 0
    trainer_state: TrainerState = UNTRAINED
    say: Callable[[str], None] = lambda _: None

    def answer(self, records: Sequence[Record], places: Iterable[int]) -> Iterator[tuple[int, Group]]:
        """Answer the records with these numbers; yields each number with its group, without pixels, as it is complete.

        Few records are read ahead, so memory does not grow with their number. Whoever ends the iterator early, or is
        interrupted, waits for no answer.

        Raises:
            EndpointError: a question has no answer; what was answered before has been yielded.
            DataError, ModelError: a record cannot be asked.
        """
        for place, encoded, completions in self.completions(records, places):
            yield place, self._judge(records[place], encoded, completions)

    def completions(
        self, records: Sequence[Record], places: Iterable[int]
    ) -> Iterator[tuple[int, EncodedPrompt, list[Completion]]]:
        """Answer as `answer` does, but judge nothing; yields number, prompt and answers of each record."""
        say = _once(self.say)
        replies: dict[int, dict[int, Reply]] = {}

        def work(question: _Question, stopped: Event) -> Reply:
            return self._ask(question, stopped, say)

        for question, reply in in_threads(work, self._questions(records, places), self.endpoint.concurrency):
            self._compare(question, reply, say)
            own = replies.setdefault(question.place, {})
            own[question.number] = reply
            if len(own) == self.n:
                ordered = [as_completion(own[number], self.env.adapter) for number in range(self.n)]
                del replies[question.place]
                yield question.place, question.encoded, ordered

    def _questions(self, records: Sequence[Record], places: Iterable[int]) -> Iterator[_Question]:
        for place in places:
            record = records[place]
            encoded = self.env.encode(record)
            yield from (_Question(place, number, record, encoded) for number in range(self.n))

    def _ask(self, question: _Question, stopped: Event, say: Say) -> Reply:
        record = question.record
        prompt, _ = self.env.ask(record)
        return ask(
            replace(self.endpoint, chat_template_kwargs=self.env.adapter.chat_template_kwargs),
            chat_messages(prompt, question.encoded.images),
            self.params,
            completion_seed(self.run_seed, 0, record, question.number),
            where=record.source or record.id,
            stopped=stopped,
            say=say,
        )

    def _compare(self, question: _Question, reply: Reply, say: Say) -> None:
        """Say so if the server reads a longer or shorter prompt than ours: it has other settings, or another model."""
        ours = len(question.encoded.ids_L)
        if reply.prompt_tokens not in (None, 0, ours):
            say(
                "prompt",
                f"{question.record.source}: the server counts {reply.prompt_tokens} tokens of the prompt, the adapter "
                f"{ours}: it has another chat template or other limits of pictures than MODEL, or is another model. "
                f"Boxes are read as {self.env.adapter.box_format.value} of MODEL",
            )

    def _judge(self, record: Record, encoded: EncodedPrompt, completions: Sequence[Completion]) -> Group:
        answered = [(record, encoded, completion) for completion in completions]
        scores = self.env.judge(answered, self.trainer_state)
        rollouts = [Rollout(one, _refused(score, one)) for one, score in zip(completions, scores, strict=True)]
        return Group(record, encoded, tuple(rollouts)).light()


def as_completion(reply: Reply, adapter: Adapter) -> Completion:
    """Return a reply as a completion, its text as `Adapter.decode` writes it.

    Its ids are those in which the adapter's tokenizer writes the text; log-probabilities are not known, and 0.
    """
    text = reply.text
    for wrapper in adapter.answer_wrappers:
        text = text.replace(wrapper, "")
    if text and adapter.opens_thought and THINK not in text:
        text = THINK + text
    end = adapter.tokenizer.eos_token_id
    ids_T = adapter.tokenize(text)
    if reply.stop_reason is not StopReason.LENGTH or not ids_T:
        ids_T = (*ids_T, adapter.pad_id if end is None else end)
    completion = Completion.sampled(ids_T, (0.0,) * len(ids_T), text, reply.stop_reason)
    return replace(completion, counted=reply.tokens)


def in_threads(work: Callable[[J, Event], R], jobs: Iterable[J], n_threads: int) -> Iterator[tuple[J, R]]:
    """Call `work(job, stopped)` in threads; yields each job with its result as it comes, in any order.

    At most `2 n_threads` jobs are taken ahead. The threads are daemons, and nobody waits for them: `stopped` is set
    when the iterator ends, be it complete, closed, interrupted, or by an error of a job. That is raised once the
    results before it have been yielded.
    """
    todo: SimpleQueue[J | None] = SimpleQueue()
    done: SimpleQueue[tuple[J, R] | BaseException] = SimpleQueue()
    stopped = Event()

    def run() -> None:
        while (job := todo.get()) is not None and not stopped.is_set():
            try:
                done.put((job, work(job, stopped)))
            except VlmR1Error as error:
                done.put(error)
                stopped.set()
            except BaseException as error:  # a bug of ours must not leave the other side waiting
                done.put(error)
                raise

    threads = [Thread(target=run, daemon=True, name=f"endpoint-{number}") for number in range(n_threads)]
    for thread in threads:
        thread.start()
    try:
        running, source = 0, iter(jobs)
        while True:
            while running < 2 * n_threads and (job := next(source, None)) is not None:
                todo.put(job)
                running += 1
            if not running:
                return
            result = done.get()
            running -= 1
            if isinstance(result, BaseException):
                yield from _finished(done)
                raise result
            yield result
    finally:
        stopped.set()
        for _ in threads:
            todo.put(None)


def _finished(done: SimpleQueue[tuple[J, R] | BaseException]) -> Iterator[tuple[J, R]]:
    """The results that are there already."""
    while not done.empty():
        result = done.get()
        if not isinstance(result, BaseException):
            yield result


def _refused(score: Score, completion: Completion) -> Score:
    """Give a refusal its own reason; its text is empty, so that nothing could be read from it."""
    return replace(score, reason=REFUSED) if completion.stop_reason is StopReason.REFUSED else score


def _once(say: Callable[[str], None]) -> Say:
    """Return a function that says a text of each kind only once; called from several threads."""
    said: dict[str, object] = {}

    def once(kind: str, text: str) -> None:
        mine = object()
        if said.setdefault(kind, mine) is mine:
            say(text)

    return once
