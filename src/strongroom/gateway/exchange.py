"""One request to a model, from its admission to its last byte: the sink of the engine's messages.

Whatever way it ends (answered, cut at its budget, refused, its client gone, its key revoked), it ends once: the tokens
that were held and not used are free again, and one `Settled` line says what was used.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from strongroom.gateway.budgets import NOTHING, Hold, Uses
from strongroom.gateway.request import Request
from strongroom.gateway.services import Reply, Services
from strongroom.ports.completions import Answer, Ask, Begun, Embedded, Ended, Failed, Finish, Piece, TokenLogprob
from strongroom.serving.admit import Caller
from strongroom.serving.quotas import Budget
from strongroom.serving.shown import Shown
from strongroom.serving.soften import seen
from strongroom.serving.usage import Admitted, Settled
from strongroom.serving.wire import Wanted
from strongroom.serving.wire_answers import Frames, Totals, failure
from strongroom.serving.wire_errors import OF_ENGINE, Refusal, refuse

_LEFT: Final = 499  # the client went away: no answer was sent, so this is for the books only
_OK: Final = 200


class Exchange:
    """A request in work."""

    __slots__ = (
        "_asked", "_begun", "_bytes", "_completion", "_frames", "_hold", "_logprobs", "_marked", "_money", "_most",
        "_need", "_over", "_prices", "_prompt", "_reply", "_request", "_services", "_shown", "_streaming", "_text",
        "_values", "_wanted", "caller",
    )  # fmt: skip

    def __init__(self, services: Services, request: Request, *, caller: Caller, wanted: Wanted, reply: Reply) -> None:
        """Prepare; `begin` begins."""
        self._services = services
        self._request = request
        self._wanted = wanted
        self._reply = reply
        self.caller = caller
        # an engine of ours refuses what is over the budget; of one of another make, the front has refused such prompts
        prompt = min(wanted.room, services.bounds.context_tokens)
        self._need = prompt + wanted.max_tokens
        self._prices = services.prices
        self._money = self._prices.cost(prompt, wanted.max_tokens)
        self._most = 0  # tokens of answer that what is held has room for
        self._hold: Hold | None = None
        self._frames = Frames(wanted, request=request.id, created=services.second)
        self._shown: Shown | None = None  # made when there is something beside plain text
        self._text: list[str] = []
        self._logprobs: list[TokenLogprob] = []
        self._prompt = self._completion = self._marked = 0
        self._bytes = self._values = 0  # of text, and values of log probabilities, that the client got
        self._asked = self._begun = self._streaming = self._over = False

    def begin(self) -> None:
        """Have all held that it may use, then ask the engine."""
        services = self._services
        uses: Uses = (0, 1, self._need, self._money, 0)
        services.budgets.reserve(
            self.caller.held, services.stamp()[:10], uses=uses, now=services.loop.time(), then=self._held
        )

    def gone(self) -> None:
        """The client has left."""
        if not self._over:
            self._cancel()
            self._settle(_LEFT, "client_left")

    def stop(self, refusal: Refusal) -> None:
        """End it now, from our side, and say why."""
        if not self._over:
            self._cancel()
            self._fail(refusal)

    # ── admission ────────────────────────────────────────────────────────────────────────────────────────────────────
    def _held(self, hold: Hold | Budget | None) -> None:
        if not isinstance(hold, Hold):
            if not self._over:
                self._refuse(self._services.short(hold))
            return
        self._hold = hold
        room = self._room(hold)
        if self._over:
            hold.settle(NOTHING)
        elif room < 1:
            short = hold.tightest(self._need)
            hold.settle(NOTHING)
            self._refuse(self._services.short(short))
        else:
            self._services.spool.admit(self._line(hold), self._admitted)

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
        self._most = self._affordable(hold, 0)
        self._services.engine.ask(self._ask(hold, self._room(hold)), self)

    def _room(self, hold: Hold) -> int:
        """Return how many tokens may be written.

        An engine of another make does not know of budgets: where less than was wanted is left of the day, the prompt
        is taken to be as long as it can be.
        """
        if self._services.exact or (hold.tokens >= self._need and hold.money >= self._money):
            return self._wanted.max_tokens
        return self._affordable(hold, self._wanted.room)

    def _affordable(self, hold: Hold, prompt: int) -> int:
        """Return how long the answer to a prompt of so many tokens may be: no longer than was asked for."""
        tokens, prices = min(hold.tokens - prompt, self._wanted.max_tokens), self._prices
        if not prices.answer:
            return tokens if prompt * prices.prompt <= hold.money else 0
        return min(tokens, (hold.money - prompt * prices.prompt) // prices.answer)

    def _line(self, hold: Hold) -> Admitted:
        return Admitted(
            id=self._request.id,
            at=self._services.stamp(),
            account=self.caller.account.name,
            key=self.caller.key.id,
            route=self._request.route,
            model=self._wanted.model,
            reserved=hold.tokens,
            origin=self._request.origin,
            org=self.caller.account.org,
            money=self._money and min(self._money, hold.money),
        )

    def _ask(self, hold: Hold, room: int) -> Ask:
        wanted, account, exact = self._wanted, self.caller.account.name, self._services.exact
        seed, price = wanted.seed, self._prices.prompt
        if seed is not None:
            seed = self._services.discloses.seed(seed, account, bits=63 if exact else 31)  # llama.cpp's has 32
        return Ask(
            id=self._request.id,
            account=account,
            model=wanted.model,
            prompt=wanted.prompt,
            turns=wanted.turns,
            max_tokens=room,
            # what an answer costs is counted here, piece by piece; a prompt that costs too much is not read at all
            budget=min(hold.tokens, hold.money // price) if price else hold.tokens,
            temperature=wanted.temperature,
            top_p=wanted.top_p,
            seed=seed,
            stop=wanted.stop,
            # as many as may be seen: of a token that is none of these, nothing is shown
            top_logprobs=None if wanted.top_logprobs is None else seen(self.caller.tier, chat=wanted.shape == "chat"),
            logit_bias=wanted.logit_bias,
            streamed=wanted.stream,
        )

    def _refuse(self, refusal: Refusal) -> None:
        self._close()
        self._services.refused(self._request, refusal)
        self._reply.refuse(refusal)

    # ── Sink ─────────────────────────────────────────────────────────────────────────────────────────────────────────
    def on_answer(self, answer: Answer) -> None:
        """Take the engine's next message."""
        if self._over or self._hold is None:
            return
        if isinstance(answer, Piece):
            self._on_piece(answer, self._hold)
        elif isinstance(answer, Begun):
            self._on_begun(answer, self._hold)
        elif isinstance(answer, Embedded):
            self._fail(refuse("engine_failed"))  # nobody has asked for vectors
        elif isinstance(answer, Ended):
            self._prompt, self._marked = answer.prompt_tokens, answer.marked_tokens
            self._completion = answer.completion_tokens
            self._finish(answer.finish)
        else:
            self._on_failed(answer)

    def _on_begun(self, begun: Begun, hold: Hold) -> None:
        self._begun = True
        self._prompt = begun.prompt_tokens
        self._most = self._affordable(hold, begun.prompt_tokens)
        if self._most < 1:
            # an engine that does not look at budgets has read a prompt that leaves no room for a token
            self._cancel()
            self._fail(self._too_long())
            return
        if begun.prompt_tokens:
            most = self._wanted.max_tokens
            hold.trim(tokens=begun.prompt_tokens + most, money=self._prices.cost(begun.prompt_tokens, most))

    def _on_piece(self, piece: Piece, hold: Hold) -> None:
        del hold
        if self._completion + piece.tokens > self._most:
            # our own engines end there themselves; this is for those that do not
            self._cancel()
            self._finish("length")
            return
        self._completion += piece.tokens
        if "<" in piece.text or piece.logprobs or piece.reasoning or (self._shown is not None and self._shown.waiting):
            if self._shown is None:
                self._shown = Shown(self._wanted, self.caller.tier, self._services.discloses.veil)
            piece = self._shown.piece(piece)
        self._pass_on(piece)

    def _pass_on(self, piece: Piece) -> None:
        """Give out what of a piece is shown."""
        if not self._wanted.stream:
            self._text.append(piece.text)
            self._logprobs += piece.logprobs
            return
        if piece.reasoning:
            self._count(piece.reasoning, ())
            self._send(self._frames.thought(piece.reasoning))
        if piece.text or piece.logprobs:
            self._count(piece.text, piece.logprobs)
            self._send(self._frames.piece(piece.text, piece.logprobs))

    def _send(self, event: bytes) -> None:
        if self._streaming:
            self._reply.stream(event)
        else:
            self._streaming = True
            self._reply.open_stream(self._frames.opening() + event)

    def _count(self, text: str, logprobs: Sequence[TokenLogprob]) -> None:
        """Count what the client learns: bytes of text, and values of log probabilities."""
        self._bytes += len(text) if text.isascii() else len(text.encode())
        for one in logprobs:
            self._values += 1 + len(one.top)

    def _on_failed(self, failed: Failed) -> None:
        if failed.code == "prompt_too_long":
            self._fail(self._too_long())
        else:
            self._fail(refuse(OF_ENGINE.get(failed.code, "engine_failed")))

    def _too_long(self) -> Refusal:
        """Return whose fault it is: the prompt's, or that of a budget which had less left than was wanted."""
        hold = self._hold
        if hold is None:
            return self._services.refusal("prompt_too_long")
        wanted = self._wanted.max_tokens
        need = min(self._need, self._prompt + wanted) if self._begun else self._need
        money = min(self._money, self._prices.cost(self._prompt, wanted)) if self._begun else self._money
        if hold.tokens >= need and hold.money >= money:
            return self._services.refusal("prompt_too_long")
        return self._services.short(hold.tightest(need))

    # ── ends ─────────────────────────────────────────────────────────────────────────────────────────────────────────
    def _finish(self, finish: Finish) -> None:
        totals = Totals(self._prompt, self._completion) if self._shown is None else self._last_shown(self._shown)
        text, told = "", self._logprobs
        if not self._wanted.stream:
            text = said = "".join(self._text)
            if self._shown is not None:
                text = self._shown.whole(said)
            # where a thought is cut off the whole text, nobody can say which tokens were its own
            told = self._logprobs if text == said else []
            self._count(text, told)
        self._settle(_OK, finish)
        if not self._wanted.stream:
            shown = None if self._wanted.top_logprobs is None else told
            self._reply.answer(_OK, self._frames.whole(text, shown, finish=finish, totals=totals))
            return
        if not self._streaming:
            self._reply.open_stream(self._frames.opening())
        self._reply.end_stream(self._frames.closing(finish, totals))

    def _last_shown(self, shown: Shown) -> Totals:
        """Give out what was held back; return the totals."""
        last = shown.end()
        if last is not None:
            self._pass_on(last)
        return Totals(self._prompt, self._completion, shown.reasoning_tokens, shown.thought)

    def _fail(self, refusal: Refusal) -> None:
        if self._hold is None:
            self._refuse(refusal)
            return
        self._settle(refusal.kind.status, refusal.code)
        if self._streaming:
            self._reply.end_stream(failure(refusal), keep=False)
        else:
            self._reply.refuse(refusal)

    def _cancel(self) -> None:
        if self._asked:
            self._services.engine.cancel(self._request.id)
            # one of another make says nothing while it reads: by now it may have read the whole prompt
            self._begun = self._begun or not self._services.exact

    def _settle(self, status: int, finish: str) -> None:
        self._close()
        if self._hold is None:
            return
        if self._begun and not self._prompt:
            # another make of engine says only at its end how long the prompt was: what never came is taken at its most
            self._prompt = min(self._wanted.room, self._hold.tokens)
        cost = self._prices.cost(self._prompt, self._completion)
        account, now = self.caller.account.name, self._services.stamp()
        self._hold.settle((0, 0, self._prompt + self._completion, cost, 0))
        self._services.spool.settle(
            Settled(
                id=self._request.id,
                at=now,
                account=account,
                status=status,
                finish=finish,
                prompt_tokens=self._prompt,
                completion_tokens=self._completion,
                marked_tokens=self._marked,
                streamed=self._wanted.stream,
                money=cost,
                bytes=self._bytes,
                logprobs=self._values,
                rank=self._services.discloses.sets.rank(account, now[:10]) if self._values else 0,
            )
        )

    def _close(self) -> None:
        self._over = True
        self._services.over(self)
