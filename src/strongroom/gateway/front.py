"""The front: who may come in and where to, and everything that connections share."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import Callable
from typing import Final

import msgspec

from strongroom.core.clock import Clock, stamp
from strongroom.gateway import heads
from strongroom.gateway.budgets import ENTRY, Budgets, Hold
from strongroom.gateway.catalogue import MODELS, show_models
from strongroom.gateway.control import Control
from strongroom.gateway.crowd import Crowd
from strongroom.gateway.discloses import Discloses
from strongroom.gateway.embedding import Embedding
from strongroom.gateway.exchange import Exchange
from strongroom.gateway.origins import Origins, Pending
from strongroom.gateway.recalls import Recalls
from strongroom.gateway.request import Request
from strongroom.gateway.services import Client, Stoppable
from strongroom.gateway.spool import Spool
from strongroom.gateway.terms import Terms
from strongroom.ports.completions import Completions
from strongroom.ports.processes import GatewaySetup
from strongroom.serving.admit import Book, Caller, may_ask
from strongroom.serving.disclosure import gate
from strongroom.serving.disclosure.fields import path_rule
from strongroom.serving.limits import until_midnight
from strongroom.serving.quotas import BY_DAY, CODES, FREE, WHOSE, Budget, Prices
from strongroom.serving.roster import Applied, Leased, Recall, Roster, TermsText
from strongroom.serving.usage import Refused
from strongroom.serving.wire import Vectors, Wanted, read_acceptance, read_chat, read_embed, read_text
from strongroom.serving.wire_errors import Refusal, refuse

_CHAT: Final = b"/v1/chat/completions"
_TEXT: Final = b"/v1/completions"
_EMBED: Final = b"/v1/embeddings"
_TUNING: Final = b"/v1/fine_tuning"
_HEALTH: Final = b"/health"
_TERMS: Final = b"/terms"
_TOMORROW: Final = {"bias_sets_exceeded", "recall_limit_exceeded"}
_METHODS: Final = {
    _CHAT: (b"POST",),
    _TEXT: (b"POST",),
    _EMBED: (b"POST",),
    _TUNING: (b"GET", b"POST", b"DELETE"),
    MODELS: (b"GET",),
    _HEALTH: (b"GET",),
    _TERMS: (b"GET", b"POST"),
}


class Front:
    """State that all connections share, and the routes."""

    def __init__(
        self, setup: GatewaySetup, *, engine: Completions, control: Control, spool: Spool, clock: Clock
    ) -> None:
        """Stand before `engine`, and hear from `control` who may come in."""
        self.loop = asyncio.get_running_loop()
        self.bounds = setup.bounds
        self.engine = engine
        self.control = control
        self.spool = spool
        self.clock = clock
        self.budgets = Budgets(control.send, slice_tokens=self.bounds.slice_tokens)
        self.discloses = Discloses(gateways=setup.gateways)
        self.recalls = Recalls(gateways=setup.gateways)
        self.terms = Terms(control.send)
        self.exact = setup.engine.startswith("unix:")
        self.stopping = False
        self._quiet = asyncio.Event()  # set when the last request ends while stopping
        self.second = int(clock.now().timestamp())
        self.date = heads.http_date(self.second)
        self._stamped = -1.0  # the loop's time of `_stamp`
        self._stamp = ""
        self._models = setup.models
        self._started = self.second
        self._book: Book | None = None
        self.prices: Prices = FREE
        self._origins = Origins()
        self._open: dict[str, int] = {}
        self._crowd: Crowd[Client] = Crowd(self.bounds.connections)
        self.enter, self.known, self.leave = self._crowd.enter, self._crowd.known, self._crowd.leave
        self._works: set[Stoppable] = set()
        self._prefix = "req_" + secrets.token_hex(10)
        self._count = 0
        self._routes: dict[tuple[bytes, bytes], Callable[[Request, Client], None]] = {
            (b"POST", _CHAT): self._chat,
            (b"POST", _TEXT): self._text,
            (b"POST", _EMBED): self._embed,
            (b"GET", _TERMS): self._read_terms,
            (b"POST", _TERMS): self._accept_terms,
        }

    # ── connections ──────────────────────────────────────────────────────────────────────────────────────────────────
    def new_id(self) -> str:
        """Return a fresh request id: unlike any other process's by its 80 random bits, then counted."""
        self._count += 1
        return f"{self._prefix}{self._count:010x}"

    def stamp(self) -> str:
        """Return the time as `core.clock.stamp` writes it: that at which this turn of the loop began."""
        now = self.loop.time()  # uvloop looks at the clock once a turn
        if now != self._stamped:
            self._stamped, self._stamp = now, stamp(self.clock.now())
        return self._stamp

    # ── decisions ────────────────────────────────────────────────────────────────────────────────────────────────────
    def judge(self, request: Request) -> Refusal | None:
        """Return why a request is refused by its head alone, if so."""
        request.judged = True
        path = request.target
        methods = _METHODS.get(path)
        if methods is None:
            path = next((one for one in (MODELS, _TUNING) if path.startswith(one + b"/")), b"")
            methods = _METHODS.get(path)
        if methods is None:
            return Refusal("not_found", rule=path_rule(request.target.decode("ascii", "replace")))
        request.route = path.decode()
        if request.method not in methods:
            return Refusal("method_not_allowed")
        return None if path == _HEALTH else self._judge_caller(request, path)

    def _judge_caller(self, request: Request, path: bytes) -> Refusal | None:
        book = self._current_book()
        if book is None:
            return refuse("control_unavailable")
        if self.stopping:
            return refuse("stopping")
        caller = book.identify(request.fields.get(b"authorization"))
        if isinstance(caller, Refusal):
            return caller
        request.caller = caller
        if (refusal := may_ask(caller, terms=request.target == _TERMS)) is not None:
            return refusal
        refusal = self._count_request(request, caller)
        if refusal is None and path == _TUNING:
            return gate.fine_tuning(caller.tier)
        return refusal

    def _count_request(self, request: Request, caller: Caller) -> Refusal | None:
        entered = self.budgets.enter(caller.minute, self.loop.time())
        request.paid = entered is True
        return None if isinstance(entered, bool) else self._refused_entry(request, caller, entered)

    def _refused_entry(self, request: Request, caller: Caller, budget: Budget) -> Refusal:
        now = self.loop.time()
        wait = self.budgets.wait(budget, now)
        own = wait if budget.scope == "account" else 0.0
        request.limits = heads.limit_fields(caller.account.rpm, 0, reset=own, tokens=caller.account.tokens_per_day)
        return Refusal("rate_limit_exceeded", retry_after=wait, detail=WHOSE[budget.scope])

    def _say_limits(self, request: Request, caller: Caller) -> None:
        """Note what the answer's head says of the account's minute."""
        account, now, own = caller.account, self.loop.time(), caller.minute[0]
        left = self.budgets.room(own, now)
        wait = 0.0 if left else self.budgets.wait(own, now)
        request.limits = heads.limit_fields(account.rpm, left, reset=wait, tokens=account.tokens_per_day)

    def _current_book(self) -> Book | None:
        return None if self.control.silence() > self.bounds.roster_seconds else self._book

    def refusal(self, code: str) -> Refusal:
        """Return the refusal of a code, with the time to come back."""
        wait = until_midnight(self.clock.now()) if code == "tokens_per_day_exceeded" else None
        return refuse(code, retry_after=wait)

    def short(self, budget: Budget | None) -> Refusal:
        """Return the refusal where a budget has too little; None: control can't be asked."""
        if budget is None:
            return refuse("control_unavailable")
        wait = until_midnight(self.clock.now()) if budget.kind in BY_DAY else 1.0
        return Refusal(CODES[budget.kind], retry_after=wait, detail=WHOSE[budget.scope])

    # ── routes ───────────────────────────────────────────────────────────────────────────────────────────────────────
    def handle(self, request: Request, client: Client) -> None:
        """Do what a request asks for, once it is let in: that may take a lease."""
        caller = request.caller
        if request.paid or caller is None:
            self._route(request, client)
            return
        pending = Pending()
        client.attach(pending)

        def entered(found: Hold | Budget | None) -> None:
            if not pending.left:
                self._entered(request, client, found=found)

        self.budgets.reserve(caller.minute, "", uses=ENTRY, now=self.loop.time(), then=entered)

    def _entered(self, request: Request, client: Client, *, found: Hold | Budget | None) -> None:
        caller = request.caller
        assert caller is not None  # noqa: S101 - who has none pays nothing
        if isinstance(found, Budget) and found.kind == "requests":
            self.refuse(request, client, refusal=self._refused_entry(request, caller, found))
        elif isinstance(found, Hold):
            self._route(request, client)
        else:
            self.refuse(request, client, refusal=self.short(found))

    def _route(self, request: Request, client: Client) -> None:
        if request.caller is not None:
            self._say_limits(request, request.caller)
        route = self._routes.get((request.method, request.target))
        if request.caller is None:
            self._health(client)
        elif route is not None:
            route(request, client)
        else:
            self._list_models(request, client)

    def refuse(self, request: Request, client: Client, *, refusal: Refusal) -> None:
        """Refuse a request, and note it."""
        self.refused(request, refusal)
        allow = b", ".join(_METHODS.get(request.target, (b"GET",)))
        client.refuse(refusal, fields=b"allow: %b\r\n" % allow if refusal.code == "method_not_allowed" else b"")

    def refused(self, request: Request, refusal: Refusal) -> None:
        """Note a refusal in the books."""
        caller = request.caller
        self.spool.refuse(
            Refused(
                id=request.id,
                at=self.stamp(),
                account=caller.account.name if caller else "",
                key=caller.key.id if caller else "",
                route=request.route,
                status=refusal.kind.status,
                code=refusal.code,
                rule=refusal.rule,
            )
        )

    def _chat(self, request: Request, client: Client) -> None:
        self._generate(request, client, read_chat(b"".join(request.body), default_tokens=self.bounds.chat_tokens))

    def _text(self, request: Request, client: Client) -> None:
        self._generate(request, client, read_text(b"".join(request.body)))

    def _embed(self, request: Request, client: Client) -> None:
        self._generate(request, client, read_embed(b"".join(request.body)))

    def _generate(self, request: Request, client: Client, wanted: Wanted | Vectors | Refusal) -> None:
        caller, book = request.caller, self._book
        assert caller is not None and book is not None  # noqa: S101, PT018 - `judge` has seen to both
        request.body.clear()
        refusal = wanted if isinstance(wanted, Refusal) else self._refusal_now(wanted, caller, book)
        if isinstance(wanted, Refusal) or refusal is not None:
            self.refuse(request, client, refusal=refusal or Refusal("bad_request"))
            return
        caller = book.callers[caller.key.digest]  # with the limits of now
        request.origin = self._origins.of(client.peer, book.roster.salt)
        exchange = (
            Exchange(self, request, caller=caller, wanted=wanted, reply=client)
            if isinstance(wanted, Wanted)
            else Embedding(self, request, caller=caller, wanted=wanted, reply=client)
        )
        self._works.add(exchange)
        self._open[caller.account.name] = self._open.get(caller.account.name, 0) + 1
        client.attach(exchange)
        exchange.begin()

    def _refusal_now(self, wanted: Wanted | Vectors, caller: Caller, book: Book) -> Refusal | None:
        # the body may have come long after the head: a key that was revoked in between opens nothing
        if book.callers.get(caller.key.digest) is not caller and (refusal := book.still(caller)) is not None:
            return refusal
        if wanted.model not in book.models:
            return Refusal("model_not_found", "model")
        if not self.exact and wanted.room > self.bounds.context_tokens:
            return refuse("prompt_too_long")  # it would be read whole before anybody could say what it costs
        if self._open.get(caller.account.name, 0) >= self.bounds.open_requests:
            return refuse("too_many_open_requests")
        refusal = self._undisclosed(wanted, caller) if self.engine.ready() else refuse("engine_unavailable")
        if refusal is not None and refusal.code in _TOMORROW:
            return msgspec.structs.replace(refusal, retry_after=until_midnight(self.clock.now()))
        return refusal

    def _undisclosed(self, wanted: Wanted | Vectors, caller: Caller) -> Refusal | None:
        if isinstance(wanted, Vectors):
            return gate.embeddings(caller.tier)
        today = self.stamp()[:10]
        if (refusal := self.recalls.refusal(caller.account.name, today)) is not None:
            return refusal
        if wanted.top_logprobs is None and not wanted.biased:
            return None
        return self.discloses.refusal(wanted, caller, today)

    def over(self, work: Stoppable) -> None:
        """An exchange has ended."""
        self._works.discard(work)
        if self.stopping and not self._works:
            self._quiet.set()
        name = work.caller.account.name
        self._open[name] -= 1
        if not self._open[name]:
            del self._open[name]

    def _list_models(self, request: Request, client: Client) -> None:
        models = self._book.models if self._book is not None else ()
        refusal = show_models(request.target, client, models=models, created=self._started)
        if refusal is not None:
            self.refuse(request, client, refusal=refusal)

    def _health(self, client: Client) -> None:
        ready = self._current_book() is not None and self.engine.ready() and not self.stopping
        client.answer(200 if ready else 503, b'{"ready":true}' if ready else b'{"ready":false}')

    def _read_terms(self, request: Request, client: Client) -> None:
        self._ask_terms(request, client, digest=None)

    def _accept_terms(self, request: Request, client: Client) -> None:
        caller, digest = request.caller, read_acceptance(b"".join(request.body))
        assert caller is not None  # noqa: S101 - `judge` has seen to it
        if isinstance(digest, Refusal):
            self.refuse(request, client, refusal=digest)
        elif (refusal := self.terms.too_often(caller.key.id, self.loop.time())) is not None:
            self.refuse(request, client, refusal=refusal)
        else:
            self._ask_terms(request, client, digest=digest)

    def _ask_terms(self, request: Request, client: Client, *, digest: str | None) -> None:
        caller = request.caller
        assert caller is not None  # noqa: S101 - `judge` has seen to it
        work = self.terms.ask(request.id, caller.key.id, digest=digest, reply=client, now=self.loop.time())
        if work is not None:
            client.attach(work)

    # ── control's messages ───────────────────────────────────────────────────────────────────────────────────────────
    def on_roster(self, roster: Roster) -> None:
        """Judge by it from now on, cut what it does not let go on, then confirm it."""
        before, book = self._book, Book(roster, models=self._models)
        self._book = book
        self.discloses.learn(roster, self.stamp()[:10])
        for work in list(self._works):
            if (refusal := book.still(work.caller)) is not None:
                work.stop(refusal)
        self.prices = roster.prices
        if before is not None:
            self.budgets.renew(book.budgets(), self.loop.time())
        self.recalls.learn(roster.recall, lambda: self.control.send(Applied(version=roster.version)))

    def on_leased(self, leased: Leased) -> None:
        """Go on with those who waited."""
        self.budgets.leased(leased, self.loop.time())

    def on_recall(self, recall: Recall) -> None:
        """Give back what lies idle: another gateway is short of it."""
        self.budgets.recalled(recall.budget, recall.day, self.loop.time())

    def held(self) -> dict[str, int]:
        """Return what this gateway holds of budgets that are not of a day, for a control that was started anew."""
        return self.budgets.held()

    def on_terms(self, terms: TermsText) -> None:
        """Pass the terms on."""
        self.terms.answered(terms)

    def on_link_lost(self) -> None:
        """Nobody waits for an answer that won't come."""
        self.budgets.lost()

    # ── time ─────────────────────────────────────────────────────────────────────────────────────────────────────────
    def tick(self) -> None:
        """A second is over."""
        now, moment = self.loop.time(), self.clock.now()
        self.second = int(moment.timestamp())
        self._stamped = -1.0  # whatever the clock did: what is kept of it is a second old at most
        self.date = heads.http_date(self.second)
        for client in self._crowd:
            client.tick(now)
        self.budgets.tick(moment.date().isoformat(), now)
        self.terms.tick(now)
        self.recalls.tick()
        self.spool.tick()

    async def stop(self) -> None:
        """Let open requests come to their end, for a while; then end them, return the leases, close the books."""
        self.stopping = True
        for client in [one for one in self._crowd if one.idle()]:
            client.close()
        if self._works:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._quiet.wait(), self.bounds.stop_seconds)
        for work in list(self._works):
            work.stop(refuse("stopping"))
        self.budgets.close(self.loop.time())
        self.spool.tick()
        self.spool.close()
        await asyncio.sleep(0.05)  # for the last bytes to clients and to control
        for client in self._crowd:
            client.close()
