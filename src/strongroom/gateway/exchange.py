"""One request to a model, from its admission to its last byte: the sink of the engine's messages.

Whatever way it ends (answered, cut at its budget, refused, its client gone, its key revoked), it ends once: the tokens
that were held and not used are free again, and one `Settled` line says what was used.
"""

from __future__ import annotations

from typing import Final

from strongroom.gateway.budgets import NOTHING, Hold, Uses
from strongroom.gateway.output import Output
from strongroom.gateway.recalls import Guard, another
from strongroom.gateway.request import Request
from strongroom.gateway.services import Reply, Services
from strongroom.ports.completions import Answer, Ask, Begun, Embedded, Ended, Failed, Piece
from strongroom.serving.admit import Caller
from strongroom.serving.quotas import Budget
from strongroom.serving.shown import Shown
from strongroom.serving.soften import seen
from strongroom.serving.usage import Admitted, Settled
from strongroom.serving.wire import Wanted
from strongroom.serving.wire_answers import Totals
from strongroom.serving.wire_errors import OF_ENGINE, Refusal, refuse

_LEFT: Final = 499  # the client went away: no answer was sent, so this is for the books only
_OK: Final = 200


class Exchange:
    """A request in work."""

    __slots__ = (
        "_ask", "_asked", "_begun", "_completion", "_guard", "_hold", "_marked", "_money", "_most", "_need", "_out",
        "_over", "_prices", "_prompt", "_reply", "_request", "_services", "_shown", "_wanted", "caller",
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
        self._out = Output(wanted, reply, request=request.id, created=services.second)
        self._shown: Shown | None = None  # made when there is something beside plain text
        self._ask: Ask | None = None  # the one that the engine was asked last, as long as it may answer
        self._guard: Guard | None = None  # looks for what repeats the training text, where an index is attached
        self._prompt = self._completion = self._marked = 0
        self._asked = self._begun = self._over = False

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
        services, account = self._services, self.caller.account.name
        today = services.stamp()[:10]
        refusal = services.recalls.refusal(account, today)  # it waited for its budget: the index may be gone by now
        if refusal is not None:
            self._fail(refusal)
            return
        self._guard = services.recalls.guard(account, self._wanted, today)
        self._ask_engine(self._ask_of(hold, self._room(hold)), hold)

    def _ask_engine(self, ask: Ask, hold: Hold) -> None:
        self._ask, self._asked = ask, True
        self._most = self._affordable(hold, 0)
        self._services.engine.ask(ask, self)

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

    def _ask_of(self, hold: Hold, room: int) -> Ask:
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
            self._asked = False
            self._end(answer.finish)
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
            self._end("length")
            return
        self._completion += piece.tokens
        tokens = piece.tokens
        if "<" in piece.text or piece.logprobs or piece.reasoning or (self._shown is not None and self._shown.waiting):
            if self._shown is None:
                self._shown = Shown(self._wanted, self.caller.tier, self._services.discloses.veil)
            piece = self._shown.piece(piece)
        if self._guard is None:
            self._out.pass_on(piece)
        else:
            self._look_at(piece, tokens, self._guard)

    # ── what repeats the training text ───────────────────────────────────────────────────────────────────────────────
    def _look_at(self, piece: Piece, tokens: int, guard: Guard) -> None:
        for one in guard.feed(piece, tokens):
            self._out.pass_on(one)
        if guard.due:
            self._act(guard)

    def _act(self, guard: Guard) -> None:
        """Do what the policy says about an answer that repeats too much. Only a mark lets it go on."""
        acted = guard.act(self._completion, out=self._out.streaming)
        if acted == "mark":
            return
        self._cancel()
        if acted == "resample":
            self._out.begin_anew()
            self._shown, self._completion = None, 0
            if self._ask is not None and self._hold is not None:
                self._ask_engine(another(self._ask, guard.left), self._hold)
            return
        for one in guard.before() if acted == "stop" else ():
            self._out.pass_on(one)
        nothing = acted == "refuse" and not self._out.streaming
        self._completion -= guard.withhold(self._completion, everything=nothing)
        if acted == "stop":
            self._finish("content_filter", told=guard.told)
        else:
            self._fail(refuse("recall_withheld"))

    def _end(self, finish: str) -> None:
        """Give out what was held back, unless there is something in it that may not go; then finish."""
        last = None if self._shown is None else self._shown.end()
        guard = self._guard
        if guard is None:
            if last is not None:
                self._out.pass_on(last)
            self._finish(finish)
            return
        asked = self._ask
        if last is not None:
            self._look_at(last, 0, guard)
        if self._over or self._ask is not asked:
            return
        for one in guard.end():
            self._out.pass_on(one)
        if guard.due:
            self._act(guard)
        if not self._over and self._ask is asked:
            self._finish(finish)

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
    def _finish(self, finish: str, *, told: str = "") -> None:
        """Send the end; `told`: why it ended, as the client hears of it."""
        shown = self._shown
        hidden = 0 if shown is None else min(shown.reasoning_tokens, self._completion)
        totals = Totals(self._prompt, self._completion, hidden, self._out.thought)
        self._out.complete(shown)
        self._settle(_OK, finish)
        self._out.finish(told or finish, totals)

    def _fail(self, refusal: Refusal) -> None:
        if self._hold is None:
            self._refuse(refusal)
            return
        self._settle(refusal.kind.status, refusal.code)
        self._out.fail(refusal)

    def _cancel(self) -> None:
        if self._asked and self._ask is not None:
            self._services.engine.cancel(self._ask.id)
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
        line = Settled(
            id=self._request.id,
            at=now,
            account=account,
            status=status,
            finish=finish,
            prompt_tokens=self._prompt,
            completion_tokens=self._completion,
            marked_tokens=min(self._marked, self._completion),
            streamed=self._wanted.stream,
            money=cost,
            bytes=self._out.bytes,
            logprobs=self._out.values,
            rank=self._services.discloses.sets.rank(account, now[:10]) if self._out.values else 0,
        )
        self._services.spool.settle(line if self._guard is None else self._guard.noted(line))

    def _close(self) -> None:
        self._over = True
        self._services.over(self)
