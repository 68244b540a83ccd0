"""The control API: what the command line does with customers, over HTTP for those who are elsewhere.

Each route is one row of a table: method, path, what it takes, what it does. The OpenAPI document is made from the same
table, so it can't say anything else.
"""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from http import HTTPStatus
from typing import Annotated, Final, Generic, TypeVar

import msgspec
from msgspec import Meta
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from strongroom.console.broker import Broker
from strongroom.core.errors import BadInput, InputTooLarge, StrongroomError
from strongroom.core.log import log
from strongroom.serving.accounts import Account, ApiKey, Terms
from strongroom.serving.books import day_of
from strongroom.serving.disclosure.tiers import FIRST, TIERS
from strongroom.serving.organisations import Organisation
from strongroom.serving.quotas import MOST, MOST_MONEY, Limits
from strongroom.serving.report import AccountReport, report

_PATIENCE: Final = 5.0  # seconds
_REMEDY: Final = "GET /api/openapi.json describes the API; the token is in run/api-token of the home."
_MOST: Final = 512 * 1024  # bytes of a body
# Every branch of the error tree by its exit status (core.errors), as HTTP says it.
_STATUS: Final = {2: 400, 3: 403, 4: 409, 5: 404, 6: 409, 7: 503, 8: 413, 9: 501}


_Limit = Annotated[int, Meta(ge=0, le=MOST)]
_Money = Annotated[int, Meta(ge=0, le=MOST_MONEY)]
_Name = Annotated[str, Meta(pattern="^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
_Tier = Annotated[str, Meta(pattern=f"^({'|'.join(TIERS)})$")]
_Org = Annotated[str, Meta(pattern="^([A-Za-z0-9][A-Za-z0-9._-]{0,63})?$")]  # empty: none


class _Body(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What a client sends."""


class LimitChange(_Body, frozen=True, kw_only=True):
    """Limits to set: what is left out stays, and 0 takes one away. Money is in billionths."""

    rpm: _Limit | None = None
    tokens_per_day: _Limit | None = None
    streams: _Limit | None = None
    money_per_day: _Money | None = None
    embeddings_per_day: _Limit | None = None

    @property
    def limits(self) -> Limits:
        """The same, as the rooms have them."""
        return Limits(
            requests=self.rpm,
            tokens=self.tokens_per_day,
            streams=self.streams,
            money=self.money_per_day,
            embeddings=self.embeddings_per_day,
        )


class NewAccount(LimitChange, frozen=True, kw_only=True):
    """An account to make."""

    name: _Name
    tier: _Tier = FIRST
    org: _Org = ""


class AccountChange(LimitChange, frozen=True, kw_only=True):
    """Limits, tier and organisation to change; what is left out stays."""

    tier: _Tier | None = None
    org: _Org | None = None


class NewOrganisation(LimitChange, frozen=True, kw_only=True):
    """An organisation to make."""

    name: _Name


class NewTerms(_Body, frozen=True, kw_only=True):
    """Terms to publish."""

    text: Annotated[str, Meta(min_length=1, pattern=r"\S")]


class Health(msgspec.Struct, frozen=True):
    """Whether control is there, and how many gateways judge by its roster."""

    gateways: int
    roster: int


class NewKey(msgspec.Struct, frozen=True):
    """A key, shown this once."""

    id: str
    account: str
    api_key: str


class AccountNames(msgspec.Struct, frozen=True):
    """The accounts."""

    accounts: list[str]


B = TypeVar("B")
NoBody: Final = type(None)


@dataclass(frozen=True, slots=True)
class Row(Generic[B]):
    """One route: its method and path, what it does, what it answers with, and what body it takes."""

    method: str
    path: str
    act: Callable[[Api, Request, B], object]
    answer: type
    body: type[B]
    status: int = HTTPStatus.OK

    async def run(self, api: Api, request: Request) -> Response:
        """Read the body, act, answer: a change once every gateway judges by it."""
        made = self.act(api, request, await _read(request, self.body))
        if self.method != "GET":
            await api.in_force()
        return _json(made, self.status)


class Api:
    """The routes over one broker. Whoever shows the token acts as the operator who started `up`."""

    def __init__(self, broker: Broker, token: str) -> None:
        """Answer for `broker` whoever shows `token`."""
        self.broker = broker
        self._token = token

    def app(self, document: bytes) -> Starlette:
        """Return the application; `document` is served as its OpenAPI description."""

        async def describe(_request: Request) -> Response:
            """Answer with the description."""
            return Response(document, media_type="application/json")

        paths = sorted({row.path for row in ROWS})
        routes = [
            Route(path, self._at(path), methods=[row.method for row in ROWS if row.path == path]) for path in paths
        ]
        described = Route("/api/openapi.json", describe)
        return Starlette(routes=[*routes, described], exception_handlers={HTTPException: _no_such_route})

    async def in_force(self) -> None:
        """Have every connected gateway judge by the home as it is now, and wait for that, a few seconds at most."""
        applied = asyncio.Event()
        try:
            self.broker.when_applied(self.broker.push(), applied.set)
            await asyncio.wait_for(applied.wait(), _PATIENCE)
        except (StrongroomError, TimeoutError) as error:  # the change itself is made: its answer is not to be lost
            log.error("a change is not in force yet", code=getattr(error, "code", type(error).__name__))

    def _at(self, path: str) -> Callable[[Request], Awaitable[Response]]:
        rows = {row.method: row for row in ROWS if row.path == path}

        async def answer(request: Request) -> Response:
            row = rows["GET" if request.method == "HEAD" else request.method]
            try:
                if not self._known(request):
                    return _problem("api.unauthorised", "show the token of `strongroom up`", 401)
                return await row.run(self, request)
            except StrongroomError as error:
                log.info("control API refused", code=error.code, where=error.where)
                return _json({"error": error.document()}, _STATUS.get(error.exit_status, 500))

        return answer

    def _known(self, request: Request) -> bool:
        shown = request.headers.get("authorization", "").removeprefix("Bearer ")
        return hmac.compare_digest(shown.encode(), self._token.encode())

    # ── what the routes do ───────────────────────────────────────────────────────────────────────────────────────────
    def health(self, _request: Request, _body: None) -> Health:
        """Say that control is there."""
        return Health(len(self.broker.gateways), self.broker.version)

    def accounts(self, _request: Request, _body: None) -> AccountNames:
        """List the accounts."""
        return AccountNames(self.broker.serving.accounts.names())

    def add_account(self, _request: Request, body: NewAccount) -> Account:
        """Make an account."""
        rooms, who = self.broker.serving, self.broker.operator
        if body.org:
            rooms.organisations.find(body.org)
        return rooms.accounts.add(who, body.name, limits=body.limits, tier=body.tier, org=body.org)

    def show_account(self, request: Request, _body: None) -> AccountReport:
        """Show an account: limits, keys, and what it used today."""
        serving = self.broker.serving
        today = day_of(serving.home.clock.now())
        return report(serving.accounts, serving.books, request.path_params["name"], day=today)

    def change_account(self, request: Request, body: AccountChange) -> Account:
        """Change an account's limits, tier or organisation."""
        rooms, who, name = self.broker.serving, self.broker.operator, request.path_params["name"]
        if body.org:
            rooms.organisations.find(body.org)
        return rooms.accounts.change(who, name, limits=body.limits, tier=body.tier, org=body.org)

    def close_account(self, request: Request, _body: None) -> Account:
        """Close an account for ever."""
        return self.broker.serving.accounts.close(self.broker.operator, request.path_params["name"])

    def add_key(self, request: Request, _body: None) -> NewKey:
        """Make a key for an account. It is shown in this answer only."""
        key, shown = self.broker.serving.accounts.add_key(self.broker.operator, request.path_params["name"])
        return NewKey(key.id, key.account, shown.reveal().decode())

    def revoke_key(self, request: Request, _body: None) -> ApiKey:
        """Revoke a key for ever: its streams are cut."""
        return self.broker.serving.accounts.revoke_key(self.broker.operator, request.path_params["id"])

    def limit_key(self, request: Request, body: LimitChange) -> ApiKey:
        """Change a key's limits."""
        return self.broker.serving.accounts.limit_key(self.broker.operator, request.path_params["id"], body.limits)

    def organisations(self, _request: Request, _body: None) -> list[Organisation]:
        """List the organisations."""
        found = self.broker.serving.organisations
        return [found.find(name) for name in found.names()]

    def add_organisation(self, _request: Request, body: NewOrganisation) -> Organisation:
        """Make an organisation."""
        return self.broker.serving.organisations.add(self.broker.operator, body.name, limits=body.limits)

    def change_organisation(self, request: Request, body: LimitChange) -> Organisation:
        """Change an organisation's limits."""
        found, who = self.broker.serving.organisations, self.broker.operator
        return found.change(who, request.path_params["name"], body.limits)

    def total(self, _request: Request, _body: None) -> Limits:
        """Show the limits of everybody together."""
        return self.broker.serving.organisations.total()

    def change_total(self, _request: Request, body: LimitChange) -> Limits:
        """Change the limits of everybody together."""
        return self.broker.serving.organisations.change_total(self.broker.operator, body.limits)

    def terms(self, _request: Request, _body: None) -> Terms:
        """Show the terms in force."""
        return self.broker.serving.accounts.terms()

    def publish_terms(self, _request: Request, body: NewTerms) -> Terms:
        """Put a new version of the terms in force."""
        return self.broker.serving.accounts.publish(self.broker.operator, body.text)


_CREATED: Final = HTTPStatus.CREATED
ROWS: Final = (
    Row("GET", "/api/health", Api.health, Health, NoBody),
    Row("GET", "/api/accounts", Api.accounts, AccountNames, NoBody),
    Row("POST", "/api/accounts", Api.add_account, Account, NewAccount, _CREATED),
    Row("GET", "/api/accounts/{name}", Api.show_account, AccountReport, NoBody),
    Row("PATCH", "/api/accounts/{name}", Api.change_account, Account, AccountChange),
    Row("DELETE", "/api/accounts/{name}", Api.close_account, Account, NoBody),
    Row("POST", "/api/accounts/{name}/keys", Api.add_key, NewKey, NoBody, _CREATED),
    Row("PATCH", "/api/keys/{id}", Api.limit_key, ApiKey, LimitChange),
    Row("DELETE", "/api/keys/{id}", Api.revoke_key, ApiKey, NoBody),
    Row("GET", "/api/orgs", Api.organisations, list[Organisation], NoBody),
    Row("POST", "/api/orgs", Api.add_organisation, Organisation, NewOrganisation, _CREATED),
    Row("PATCH", "/api/orgs/{name}", Api.change_organisation, Organisation, LimitChange),
    Row("GET", "/api/total", Api.total, Limits, NoBody),
    Row("PATCH", "/api/total", Api.change_total, Limits, LimitChange),
    Row("GET", "/api/terms", Api.terms, Terms, NoBody),
    Row("POST", "/api/terms", Api.publish_terms, Terms, NewTerms, _CREATED),
)


async def _read(request: Request, kind: type[B]) -> B:
    """Return the body as `kind`; where none is taken, none may come.

    Raises:
        InputTooLarge: it is over 512 KiB.
        BadInput: it does not fit.

    """
    raw = bytearray()
    async for chunk in request.stream():
        raw += chunk
        if len(raw) > _MOST:
            raise InputTooLarge(f"a body is at most {_MOST} bytes", where="body")
    try:
        return msgspec.json.decode(bytes(raw) or b"null", type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        taken = "nothing" if kind is NoBody else ", ".join(kind.__annotations__)
        raise BadInput(f"the body does not fit: it takes {taken}", where="body") from None


def _json(document: object, status: int) -> Response:
    return Response(msgspec.json.encode(document), status, media_type="application/json")


async def _no_such_route(_request: Request, error: Exception) -> Response:
    """Answer what is no route, or no method of one, as JSON too."""
    known = isinstance(error, HTTPException)
    answer = _problem(
        "api.no_such_route", "see /api/openapi.json for what there is", error.status_code if known else 500
    )
    answer.headers.update(error.headers or {} if known else {})  # of a method that is none: those that are
    return answer


def _problem(code: str, message: str, status: int) -> Response:
    return _json({"error": {"code": code, "where": "control API", "message": message, "remedy": _REMEDY}}, status)
