"""The thread that writes: takes jobs, runs the decode loop, tells what came of each step."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass
from queue import Empty, SimpleQueue

from strongroom.core.errors import BadInput, InputTooLarge
from strongroom.core.log import log
from strongroom.core.serving_errors import EngineFailed
from strongroom.engines.decode import Outcome
from strongroom.engines.row import Order, Row, Wrote
from strongroom.engines.transformers_engine import Engine
from strongroom.engines.vectors import Vectors
from strongroom.ports.completions import Answer, Ask, Begun, Embed, Embedded, Ended, Failed, Piece
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
    """An ask, read, and the key that marks its answer; None: temperature 0, where there is nothing to draw."""

    ask: Ask
    order: Order
    key: MarkKey | None


@dataclass(frozen=True, slots=True)
class EmbedJob:
    """Texts whose vectors are wanted, as tokens."""

    embed: Embed
    texts: tuple[list[int], ...]


class Scribe:
    """Owns the batch. An inbox of jobs, of ids to cancel, and at last of None."""

    def __init__(
        self,
        engine: Engine,
        inbox: SimpleQueue[Job | EmbedJob | str | None],
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
        self._embeds: deque[tuple[EmbedJob, Vectors]] = deque()
        self._share = max(1, most - most // 4)  # rows of one account: somebody else finds room at once

    def run(self) -> None:
        """Write until the inbox says None."""
        while self._take():
            answers = self._admit()
            for outcome in self._batch.step():
                answers += self._told(outcome)
            answers += self._embed()
            if answers:
                self._tell(answers)

    def _take(self) -> bool:
        """Empty the inbox, waiting if there is nothing to write; return whether to go on."""
        try:
            while True:
                item = self._inbox.get(block=not (self._asks or self._waiting or self._embeds))
                if item is None:
                    return False
                if isinstance(item, Job):
                    self._waiting.append(item)
                elif isinstance(item, EmbedJob):
                    self._embeds.append((item, Vectors(self._engine.model, item.texts)))
                else:
                    self._drop(item)
        except Empty:
            return True

    def _drop(self, request: str) -> None:
        self._waiting = deque(job for job in self._waiting if job.ask.id != request)
        self._embeds = deque(one for one in self._embeds if one[0].embed.id != request)
        for row in [row for row, ask in self._asks.items() if ask.id == request]:
            self._batch.leave(row)
            del self._asks[row]

    def _admit(self) -> list[Answer]:
        """Let in who waits, as far as there is room; tell them that their prompt is being read."""
        begun: list[Answer] = []
        while len(self._asks) < self._most and (job := self._next()) is not None:
            try:
                row = self._engine.row(job.order, job.key)
            except Exception as error:  # noqa: BLE001 - one asker's trouble is not the others'
                begun.append(failure(job.ask, error))
                continue
            self._asks[row] = job.ask
            self._batch.join(row)
            begun.append(Begun(id=job.ask.id, prompt_tokens=len(job.order.ids), marked=row.hot))
        return begun

    def _next(self) -> Job | None:
        """Take the first who waits, of the account that has the fewest rows: nobody's many requests hold up others."""
        rows = Counter(ask.account for ask in self._asks.values())
        fitting = [job for job in self._waiting if rows[job.ask.account] < self._share]
        if not fitting:
            return None
        first = min(fitting, key=lambda job: rows[job.ask.account])
        self._waiting.remove(first)
        return first

    def _embed(self) -> list[Answer]:
        """Read one piece of one text, of whoever's turn it is."""
        if not self._embeds:
            return []
        job, vectors = self._embeds.popleft()
        try:
            if not vectors.step():
                self._embeds.append((job, vectors))
                return []
            tokens = sum(map(len, job.texts))
            return [Embedded(id=job.embed.id, width=vectors.width, vectors=vectors.raw(), prompt_tokens=tokens)]
        except Exception as error:  # noqa: BLE001 - whatever the model raises; the others go on
            return [failure(job.embed, error)]

    def _told(self, outcome: Outcome) -> list[Answer]:
        """Return what a row's outcome says to its asker."""
        row, wrote = outcome
        ask = self._asks[row]
        if not isinstance(wrote, Wrote):
            del self._asks[row]
            return [failure(ask, wrote)]
        said: list[Answer] = [Piece(id=ask.id, text=wrote.text, tokens=1, logprobs=wrote.logprobs)]
        if row.finish is not None:
            del self._asks[row]
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


def read_ask(engine: Engine, ask: Ask) -> Order:
    """Return what is to be written for an ask: its prompt as tokens, and how to go on.

    Reading takes about a second for each megabyte of a prompt, so it is done beside the thread that writes, and a
    prompt that is too long is given up as soon as that is seen.

    Raises:
        BadInput: the prompt is empty, or an option is out of range.
        InputTooLarge: the prompt leaves no room.

    """
    sampling = Sampling(
        max_new_tokens=ask.max_tokens,
        temperature=ask.temperature,
        top_p=ask.top_p,
        top_k=ask.top_k,
        seed=ask.seed,
    )
    most = min(ask.budget, engine.context or ask.budget)
    if engine.tokens.is_beyond(ask.prompt or " ".join(turn.content for turn in ask.turns), most):
        raise InputTooLarge(f"over {most} tokens", where="prompt")
    if any(token >= engine.vocabulary for token, _ in ask.logit_bias):
        raise BadInput("a bias on a token that there is not", where="logit_bias")
    ids = engine.tokens.encode(_prompt(ask))
    return Order(
        ids=ids,
        room=engine.room(ids, ask.max_tokens, budget=ask.budget),
        sampling=sampling,
        stop=ask.stop,
        top_logprobs=None if ask.top_logprobs is None else min(ask.top_logprobs, _MOST_LOGPROBS),
        logit_bias=ask.logit_bias,
    )


def _prompt(ask: Ask) -> Prompt:
    """Return the text or the conversation of an ask."""
    if ask.prompt is not None:
        return ask.prompt
    # a template knows "system"; "developer" is the same word in a newer dialect
    roles = {"developer": "system"}
    return [{"role": roles.get(turn.role, turn.role), "content": turn.content} for turn in ask.turns]


def failure(ask: Ask | Embed, error: Exception) -> Failed:
    """Return what the asker is told of `error`, and log what it was, without a word of prompt or answer."""
    kinds: tuple[tuple[type[Exception], str], ...] = ((InputTooLarge, "prompt_too_long"), (BadInput, "bad_prompt"))
    code = next((word for kind, word in kinds if isinstance(error, kind)), "failed")
    if code == "failed":
        # an EngineFailed tells the type of what the model raised, which holds no text
        kind = error.message if isinstance(error, EngineFailed) else type(error).__name__
        log.error("writing failed", code=EngineFailed.code, reason=kind)
    return Failed(id=ask.id, code=code, message=_MESSAGES[code])
