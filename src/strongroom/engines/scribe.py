"""The thread that writes: takes jobs, runs the decode loop, tells what came of each step."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from queue import Empty, SimpleQueue

from strongroom.core.errors import BadInput, EngineFailed, InputTooLarge
from strongroom.core.log import log
from strongroom.engines.decode import Outcome
from strongroom.engines.row import Order, Row, Wrote
from strongroom.engines.transformers_engine import Engine
from strongroom.ports.completions import Answer, Ask, Begun, Ended, Failed, Piece
from strongroom.ports.engine import Prompt, Sampling
from strongroom.watermark.keys import MarkKey

_MOST_LOGPROBS = 64
_MESSAGES = {
    "bad_prompt": "the prompt is empty, or the model takes no conversations, or an option is out of range",
    "prompt_too_long": "the prompt leaves no room for an answer",
    "failed": "the engine failed",
}


@dataclass(frozen=True, slots=True)
class Job:
    """An ask and the key that marks its answer; None: temperature 0, where there is nothing to draw."""

    ask: Ask
    key: MarkKey | None


class Scribe:
    """Owns the batch. An inbox of jobs, of ids to cancel, and at last of None."""

    def __init__(
        self,
        engine: Engine,
        inbox: SimpleQueue[Job | str | None],
        *,
        most: int,
        tell: Callable[[list[Answer]], None],
    ) -> None:
        """Write at most `most` texts of `engine` at once; `tell` is called with a step's answers."""
        self._engine = engine
        self._inbox = inbox
        self._most = most
        self._tell = tell
        self._batch = engine.batch()
        self._waiting: deque[Job] = deque()
        self._asks: dict[Row, Ask] = {}
        self._begun: set[Row] = set()

    def run(self) -> None:
        """Write until the inbox says None."""
        while self._take():
            answers = self._admit()
            for outcome in self._batch.step():
                answers += self._told(outcome)
            if answers:
                self._tell(answers)

    def _take(self) -> bool:
        """Empty the inbox, waiting if there is nothing to write; return whether to go on."""
        try:
            while True:
                item = self._inbox.get(block=not self._asks and not self._waiting)
                if item is None:
                    return False
                if isinstance(item, Job):
                    self._waiting.append(item)
                else:
                    self._drop(item)
        except Empty:
            return True

    def _drop(self, request: str) -> None:
        self._waiting = deque(job for job in self._waiting if job.ask.id != request)
        for row in [row for row, ask in self._asks.items() if ask.id == request]:
            self._batch.leave(row)
            self._forget(row)

    def _forget(self, row: Row) -> None:
        del self._asks[row]
        self._begun.discard(row)

    def _admit(self) -> list[Answer]:
        """Let in who waits, as far as there is room; return the refusals."""
        refusals: list[Answer] = []
        while self._waiting and len(self._asks) < self._most:
            job = self._waiting.popleft()
            try:
                row = self._row(job)
            except Exception as error:  # noqa: BLE001 - a tokenizer or template can raise anything
                refusals.append(_failure(job.ask, error))
            else:
                self._asks[row] = job.ask
                self._batch.join(row)
        return refusals

    def _row(self, job: Job) -> Row:
        ask = job.ask
        sampling = Sampling(
            max_new_tokens=ask.max_tokens,
            temperature=ask.temperature,
            top_p=ask.top_p,
            top_k=ask.top_k,
            seed=ask.seed,
        )
        ids = self._engine.tokens.encode(_prompt(ask))
        order = Order(
            ids=ids,
            room=self._engine.room(ids, ask.max_tokens, budget=ask.budget),
            sampling=sampling,
            stop=ask.stop,
            top_logprobs=None if ask.top_logprobs is None else min(ask.top_logprobs, _MOST_LOGPROBS),
        )
        return self._engine.row(order, job.key)

    def _told(self, outcome: Outcome) -> list[Answer]:
        """Return what a row's outcome says to its asker."""
        row, wrote = outcome
        ask = self._asks[row]
        if not isinstance(wrote, Wrote):
            self._forget(row)
            return [_failure(ask, wrote)]
        said: list[Answer] = []
        if row not in self._begun:
            self._begun.add(row)
            said.append(Begun(id=ask.id, prompt_tokens=len(row.order.ids), marked=row.hot))
        said.append(Piece(id=ask.id, text=wrote.text, tokens=1, logprobs=wrote.logprobs))
        if row.finish is not None:
            self._forget(row)
            said.append(
                Ended(
                    id=ask.id,
                    finish=row.finish,
                    prompt_tokens=len(row.order.ids),
                    completion_tokens=len(row.new),
                    marked_tokens=row.marked,
                )
            )
        return said


def _prompt(ask: Ask) -> Prompt:
    """Return the text or the conversation of an ask."""
    if ask.prompt is not None:
        return ask.prompt
    # a template knows "system"; "developer" is the same word in a newer dialect
    roles = {"developer": "system"}
    return [{"role": roles.get(turn.role, turn.role), "content": turn.content} for turn in ask.turns]


def _failure(ask: Ask, error: Exception) -> Failed:
    """Return what the asker is told of `error`, and log what it was, without a word of prompt or answer."""
    kinds: tuple[tuple[type[Exception], str], ...] = ((InputTooLarge, "prompt_too_long"), (BadInput, "bad_prompt"))
    code = next((word for kind, word in kinds if isinstance(error, kind)), "failed")
    if code == "failed":
        # an EngineFailed tells the type of what the model raised, which holds no text
        kind = error.message if isinstance(error, EngineFailed) else type(error).__name__
        log.error("writing failed", code=EngineFailed.code, reason=kind)
    return Failed(id=ask.id, code=code, message=_MESSAGES[code])
