"""A model that answers many at once: the decode loop in a thread of its own, beside an event loop that never waits.

The event loop side counts who is open, fetches marks and hands answers out; the thread owns model, tokenizer and batch.
Between them go whole messages: orders in through a queue, answers out in one wake-up of the event loop for each step.
"""

from __future__ import annotations

import asyncio
import threading
from contextlib import suppress
from queue import SimpleQueue
from typing import Protocol

from strongroom.core.errors import StrongroomError
from strongroom.core.log import log
from strongroom.engines.scribe import EmbedJob, Job, Scribe, failure, read_ask
from strongroom.engines.transformers_engine import Engine
from strongroom.engines.vectors import read_texts
from strongroom.ports.completions import Answer, Ask, Embed, Failed, Last, Ready, Sink
from strongroom.watermark.keys import MarkKey

_STOPPING = "the engine is stopping"
_QUEUE_FULL = "too many requests wait"


class Marks(Protocol):
    """Where the marks of accounts come from."""

    async def mark(self, account: str) -> MarkKey:
        """Return the key for what is written for `account` now.

        Raises:
            StrongroomError: it can't be had.

        """
        ...


class Service:
    """Completions of one loaded model, in this process. Make it, and call it, on one event loop."""

    def __init__(self, engine: Engine, marks: Marks, *, max_batch: int = 8, max_waiting: int = 32) -> None:
        """Write with `engine`, under the marks that `marks` gives."""
        self._loop = asyncio.get_running_loop()
        self._engine = engine
        self._marks = marks
        self.died = asyncio.Event()  # the thread has ended by itself: nothing is written here any more
        self._context = engine.context or 0
        self._most = max_batch + max_waiting
        self._open: dict[str, Sink] = {}
        self._fetching: dict[str, asyncio.Task[None]] = {}
        self._inbox: SimpleQueue[Job | EmbedJob | str | None] = SimpleQueue()
        self._closed = False
        self._emptied: asyncio.Future[None] | None = None
        scribe = Scribe(engine, self._inbox, most=max_batch, tell=self._tell)
        self._thread = threading.Thread(target=self._write, args=(scribe,), name="decode", daemon=True)
        self._thread.start()

    # ── Completions ──────────────────────────────────────────────────────────────────────────────────────────────────
    def ask(self, ask: Ask | Embed, sink: Sink) -> None:
        """Begin. Whatever happens, `sink` gets exactly one `Ended`, `Embedded` or `Failed`."""
        if self._closed:
            return self._refuse(ask, sink, code="unavailable", message=_STOPPING)
        if ask.id in self._open:
            return self._refuse(ask, sink, code="failed", message="a request of that id is open")
        if len(self._open) >= self._most:
            return self._refuse(ask, sink, code="busy", message=_QUEUE_FULL)
        self._open[ask.id] = sink
        self._fetching[ask.id] = self._loop.create_task(
            self._read(ask) if isinstance(ask, Embed) else self._prepared(ask)
        )
        return None

    def cancel(self, request: str) -> None:
        """Stop the request of that id; its sink hears nothing any more."""
        if self._open.pop(request, None) is None:
            return
        task = self._fetching.pop(request, None)
        if task is not None:
            task.cancel()
        self._inbox.put(request)

    def ready(self) -> bool:
        """Whether an ask would reach a loaded model now."""
        return not self._closed and self._thread.is_alive()

    def close(self) -> None:
        """Let go; every open ask fails with "unavailable"."""
        self._closed = True
        for task in self._fetching.values():
            task.cancel()
        self._fetching.clear()
        for request in list(self._open):
            self._give(request, Failed(id=request, code="unavailable", message=_STOPPING))
        self._inbox.put(None)

    # ── the rest ─────────────────────────────────────────────────────────────────────────────────────────────────────
    def introduce(self, model: str) -> Ready:
        """Return what a gateway is told first, when this is served as `model`."""
        return Ready(model=model, context=self._context)

    async def drain(self, seconds: float) -> None:
        """Take no more asks, let those that are open end within `seconds`, and close."""
        self._closed = True
        if self._open:
            self._emptied = self._loop.create_future()
            await asyncio.wait({self._emptied}, timeout=seconds)
        self.close()
        await asyncio.to_thread(self._thread.join, seconds)

    def _write(self, scribe: Scribe) -> None:
        """Be the thread; if it ever ends by itself, everybody hears of it."""
        try:
            scribe.run()
        except Exception as error:  # noqa: BLE001 - the outermost frame of a thread
            log.error("the thread that writes has ended", code=type(error).__name__)
            with suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self.died.set)
        with suppress(RuntimeError):  # the event loop has ended
            self._loop.call_soon_threadsafe(self.close)

    def _refuse(self, ask: Ask | Embed, sink: Sink, *, code: str, message: str) -> None:
        self._loop.call_soon(sink.on_answer, Failed(id=ask.id, code=code, message=message))

    async def _read(self, embed: Embed) -> None:
        """Read the texts, then queue them: there is nothing to mark."""
        try:
            self._inbox.put(EmbedJob(embed, await asyncio.to_thread(read_texts, self._engine, embed)))
        except Exception as error:  # noqa: BLE001 - a tokenizer can raise anything
            self._fetching.pop(embed.id, None)
            self._give(embed.id, failure(embed, error))
        finally:
            self._fetching.pop(embed.id, None)

    async def _prepared(self, ask: Ask) -> None:
        """Read the prompt, fetch the account's mark, then queue the ask: without a mark nothing is written."""
        try:
            order = await asyncio.to_thread(read_ask, self._engine, ask)
        except Exception as error:  # noqa: BLE001 - a tokenizer or template can raise anything
            self._fetching.pop(ask.id, None)
            return self._give(ask.id, failure(ask, error))
        try:
            key = await self._marks.mark(ask.account) if ask.temperature > 0 else None
        except Exception as error:  # noqa: BLE001 - whatever it is, the answer is no
            log.warning("no mark", code=error.code if isinstance(error, StrongroomError) else type(error).__name__)
            self._give(ask.id, Failed(id=ask.id, code="mark_unavailable", message="the account's mark can't be had"))
        else:
            self._inbox.put(Job(ask, order, key))
        finally:
            self._fetching.pop(ask.id, None)
        return None

    def _tell(self, answers: list[Answer]) -> None:
        """Take answers from the thread over to the event loop."""
        try:
            self._loop.call_soon_threadsafe(self._hand_out, answers)
        except RuntimeError:  # the event loop has ended: nobody listens any more
            self._inbox.put(None)

    def _hand_out(self, answers: list[Answer]) -> None:
        for answer in answers:
            self._give(answer.id, answer)

    def _give(self, request: str, answer: Answer) -> None:
        """Give an open request its next answer; one that was cancelled, or has ended, gets none."""
        ended = isinstance(answer, Last)
        sink = self._open.pop(request, None) if ended else self._open.get(request)
        if self._emptied is not None and not self._open and not self._emptied.done():
            self._emptied.set_result(None)
        if sink is None:
            return
        try:
            sink.on_answer(answer)
        except Exception as error:  # noqa: BLE001 - one asker's trouble is not the others'
            log.error("a sink failed", code=type(error).__name__)
            self.cancel(request)
