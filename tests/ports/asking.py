"""What tests of completions share: an asker that waits for its answer, and marks out of nothing."""

from __future__ import annotations

import asyncio

from strongroom.core.errors import StoreUnavailable
from strongroom.core.secrets import Secret
from strongroom.ports.completions import Answer, Ask, Begun, Completions, Embed, Embedded, Ended, Failed, Last, Piece
from strongroom.watermark.keys import MarkKey

PATIENCE = 60


class Asker:
    """A sink that keeps what it hears."""

    def __init__(self) -> None:
        self.heard: list[Answer] = []
        self._ended = asyncio.Event()
        self._spoken = asyncio.Event()

    def on_answer(self, answer: Answer) -> None:
        assert not self._ended.is_set(), answer
        self.heard.append(answer)
        self._spoken.set()
        if isinstance(answer, Last):
            self._ended.set()

    async def ended(self) -> Asker:
        async with asyncio.timeout(PATIENCE):
            await self._ended.wait()
        return self

    async def spoken(self) -> None:
        async with asyncio.timeout(PATIENCE):
            await self._spoken.wait()

    @property
    def text(self) -> str:
        return "".join(one.text for one in self.pieces)

    @property
    def pieces(self) -> list[Piece]:
        return [one for one in self.heard if isinstance(one, Piece)]

    @property
    def begun(self) -> Begun:
        assert isinstance(self.heard[0], Begun), self.heard
        return self.heard[0]

    @property
    def end(self) -> Ended:
        last = self.heard[-1]
        assert isinstance(last, Ended), last
        return last

    @property
    def embedded(self) -> Embedded:
        (last,) = self.heard
        assert isinstance(last, Embedded), last
        return last

    @property
    def code(self) -> str:
        last = self.heard[-1]
        assert isinstance(last, Failed), last
        return last.code


class Marks:
    """A mark for everybody; for nobody while it is `gone`."""

    def __init__(self) -> None:
        self.gone = False
        self.slow = 0.0

    async def mark(self, account: str) -> MarkKey:
        await asyncio.sleep(self.slow)
        if self.gone:
            raise StoreUnavailable("no", where="mark")
        return MarkKey(account, "2026-11", Secret(account.encode().ljust(16, b".")[:16]))


def ask(number: int = 0, **choice: object) -> Ask:
    plain = {"account": "acme", "model": "m", "max_tokens": 8, "budget": 1000, "temperature": 0.0}
    wanted = {} if "turns" in choice else {"prompt": "abc"}
    return Ask(id=f"r{number}", **(plain | wanted | choice))  # type: ignore[arg-type]


def embed(*texts: str, number: int = 0, **choice: object) -> Embed:
    plain = {"account": "acme", "model": "m", "budget": 1000}
    return Embed(id=f"r{number}", texts=texts, **(plain | choice))  # type: ignore[arg-type]


def begin(completions: Completions, wanted: Ask | Embed) -> Asker:
    asker = Asker()
    completions.ask(wanted, asker)
    return asker


async def answer(completions: Completions, wanted: Ask | Embed) -> Asker:
    return await begin(completions, wanted).ended()


async def until_ready(completions: Completions) -> None:
    async with asyncio.timeout(PATIENCE):
        while not completions.ready():  # noqa: ASYNC110 - the port has no event for it
            await asyncio.sleep(0.01)
