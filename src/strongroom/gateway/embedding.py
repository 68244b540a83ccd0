"""One request for embeddings, from its admission to its answer."""

from __future__ import annotations

import base64
from array import array
from typing import Final, Protocol

import msgspec

from strongroom.gateway.budgets import NOTHING, Hold
from strongroom.gateway.request import Request
from strongroom.gateway.services import Reply, Services
from strongroom.ports.completions import Answer, Embed, Embedded, Failed
from strongroom.serving.admit import Caller
from strongroom.serving.quotas import Budget
from strongroom.serving.usage import Admitted, Settled
from strongroom.serving.wire import Vectors
from strongroom.serving.wire_bodies import REASONS
from strongroom.serving.wire_errors import OF_ENGINE, Refusal, refuse
from strongroom.wiring.table import load

_LEFT: Final = 499
_OK: Final = 200
_FLOAT: Final = 4  # bytes
_encode = msgspec.json.Encoder().encode


class _Softening(Protocol):
    def soften(self, vectors: bytes, texts: tuple[str, ...], *, width: int, dimensions: int | None) -> list[bytes]: ...


class Embedding:
    """A request in work."""

    __slots__ = (
        "_asked", "_hold", "_over", "_prices", "_reply", "_request", "_served", "_services", "_wanted", "caller",
    )  # fmt: skip

    def __init__(self, services: Services, request: Request, *, caller: Caller, wanted: Vectors, reply: Reply) -> None:
        """Prepare; `begin` begins."""
        self._services = services
        self._request = request
        self._wanted = wanted
        self._reply = reply
        self.caller = caller
        self._prices = services.prices  # those of now: what is held is paid
        self._hold: Hold | None = None
        self._asked = self._over = False
        self._served = 0  # bytes of vectors that the client got

    def begin(self) -> None:
        """Have tokens, money and texts held, then ask the engine."""
        wanted = self._wanted
        self._services.budgets.reserve(
            self.caller.held,
            self._services.stamp()[:10],
            uses=(0, 1, wanted.room, self._prices.cost(wanted.room, 0), len(wanted.texts)),
            now=self._services.loop.time(),
            then=self._held,
        )

    def gone(self) -> None:
        """The client has left: what the engine may have read by now is not known, and counts at its most."""
        if not self._over:
            self._cancel()
            self._settle(_LEFT, "client_left", tokens=self._most())

    def stop(self, refusal: Refusal) -> None:
        """End it now, from our side, and say why."""
        if not self._over:
            self._cancel()
            self._fail(refusal, tokens=self._most())

    def on_answer(self, answer: Answer) -> None:
        """Take the engine's answer."""
        if self._over:
            return
        if isinstance(answer, Embedded):
            self._on_embedded(answer)
        elif isinstance(answer, Failed):
            self._fail(refuse(OF_ENGINE.get(answer.code, "engine_failed")))
        else:
            self._cancel()
            self._fail(refuse("engine_failed"))

    # ── admission ────────────────────────────────────────────────────────────────────────────────────────────────────
    def _held(self, hold: Hold | Budget | None) -> None:
        if not isinstance(hold, Hold):
            if not self._over:
                self._refuse(self._services.short(hold))
            return
        self._hold = hold
        if self._over:
            hold.settle(NOTHING)
        elif self._too_little(hold):
            short = hold.tightest(self._wanted.room)
            hold.settle(NOTHING)
            self._refuse(self._services.short(short))
        else:
            self._services.spool.admit(self._line(hold), self._admitted)

    def _too_little(self, hold: Hold) -> bool:
        """Whether a rest is left that will not do: money of all engines, tokens of one that knows of no budget."""
        cost = self._prices.cost(self._wanted.room, 0)
        return hold.money < cost or (hold.tokens < self._wanted.room and not self._services.exact)

    def _admitted(self, written: bool) -> None:  # noqa: FBT001 - what the spool tells
        """The line that lets it in is written, or can't be: then nothing may be served."""
        hold = self._hold
        if self._over or hold is None:
            return
        if not written:
            hold.settle(NOTHING)
            self._refuse(refuse("usage_unavailable"))
            return
        self._asked = True
        self._services.engine.ask(self._embed(min(hold.tokens, self._wanted.room)), self)

    def _line(self, hold: Hold) -> Admitted:
        return Admitted(
            id=self._request.id,
            at=self._services.stamp(),
            account=self.caller.account.name,
            key=self.caller.key.id,
            route=self._request.route,
            model=self._wanted.model,
            reserved=min(hold.tokens, self._wanted.room),
            origin=self._request.origin,
            org=self.caller.account.org,
            money=self._prices.cost(self._wanted.room, 0),
            texts=len(self._wanted.texts),
        )

    def _embed(self, budget: int) -> Embed:
        account, wanted = self.caller.account.name, self._wanted
        return Embed(id=self._request.id, account=account, model=wanted.model, texts=wanted.texts, budget=budget)

    # ── ends ─────────────────────────────────────────────────────────────────────────────────────────────────────────
    def _on_embedded(self, embedded: Embedded) -> None:
        wanted, tokens = self._wanted, embedded.prompt_tokens or self._most()
        if embedded.width < 1 or len(embedded.vectors) != _FLOAT * embedded.width * len(wanted.texts):
            self._fail(refuse("engine_failed"), tokens=tokens)
            return
        softening: _Softening = self._services.discloses.vectors(load("vectors", "veil"))
        served = softening.soften(embedded.vectors, wanted.texts, width=embedded.width, dimensions=wanted.dimensions)
        width = len(served[0]) // _FLOAT
        if wanted.dimensions is not None and width < wanted.dimensions:
            detail = f"{REASONS['dimensions']} These have {width}."
            self._fail(Refusal("invalid_value", "dimensions", detail=detail), tokens=tokens)
            return
        self._services.discloses.sets.embedded(self.caller.account.name, self._services.stamp()[:10], width=width)
        self._served = sum(map(len, served))
        self._settle(_OK, "stop", tokens=tokens)
        self._reply.answer(_OK, self._document(served, tokens))

    def _document(self, served: list[bytes], tokens: int) -> bytes:
        shown = [base64.b64encode(one).decode() if self._wanted.base64 else _numbers(one) for one in served]
        data = [{"object": "embedding", "index": place, "embedding": one} for place, one in enumerate(shown)]
        usage = {"prompt_tokens": tokens, "total_tokens": tokens}
        return _encode({"object": "list", "data": data, "model": self._wanted.model, "usage": usage})

    def _most(self) -> int:
        """Return what the engine may have read."""
        return min(self._wanted.room, self._hold.tokens) if self._hold is not None and self._asked else 0

    def _refuse(self, refusal: Refusal) -> None:
        self._close()
        self._services.refused(self._request, refusal)
        self._reply.refuse(refusal)

    def _fail(self, refusal: Refusal, *, tokens: int = 0) -> None:
        if self._hold is None:
            self._refuse(refusal)
            return
        self._settle(refusal.kind.status, refusal.code, tokens=tokens)
        self._reply.refuse(refusal)

    def _cancel(self) -> None:
        if self._asked:
            self._services.engine.cancel(self._request.id)

    def _settle(self, status: int, finish: str, *, tokens: int) -> None:
        self._close()
        if self._hold is None:
            return
        account, now = self.caller.account.name, self._services.stamp()
        money, texts = self._prices.cost(tokens, 0), len(self._wanted.texts) if tokens else 0
        self._hold.settle((0, 0, tokens, money, texts))
        self._services.spool.settle(
            Settled(
                id=self._request.id,
                at=now,
                account=account,
                status=status,
                finish=finish,
                prompt_tokens=tokens,
                completion_tokens=0,
                money=money,
                bytes=self._served,
                texts=texts,
                rank=self._services.discloses.sets.rank(account, now[:10]),
            )
        )

    def _close(self) -> None:
        self._over = True
        self._services.over(self)


def _numbers(raw: bytes) -> list[float]:
    return [round(one, 7) for one in array("f", raw)]
