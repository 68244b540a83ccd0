"""Customers: accounts with their limits, API keys, terms and who accepted them.

An API key is shown once. What is kept is its SHA-256: a key has 256 random bits, so no slower hash is needed.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from dataclasses import dataclass
from typing import Final, Literal

from msgspec.structs import replace

from strongroom.access.deeds import Deeds, Series
from strongroom.access.identity import Identity
from strongroom.core.canonical import Record
from strongroom.core.clock import stamp
from strongroom.core.errors import AlreadyExists, BadInput, InputTooLarge, TamperError
from strongroom.core.ids import check_name
from strongroom.core.log import log
from strongroom.core.secrets import Secret
from strongroom.core.serving_errors import NoSuchAccount, NoSuchApiKey, NoTerms, UnknownApiKey
from strongroom.ledger.events import Entry
from strongroom.ledger.journal import Act, Journal
from strongroom.serving.disclosure.tiers import FIRST, tier_of
from strongroom.serving.quotas import NONE, Limits, check_limits
from strongroom.serving.roster import Roster, RosterAccount, RosterKey

RPM: Final = 60  # what a new account gets unless more is said: enough to try, too little to extract
TOKENS_PER_DAY: Final = 200_000
FIRST_LIMITS: Final = Limits(requests=RPM, tokens=TOKENS_PER_DAY)
ACCEPTED: Final = "serving.accepted"
SERVING: Final = Series("serving.entered", "serving.manage")
_UNREADABLE: Final = "unreadable"  # the digest of terms that were altered: no key has accepted these
_MOST_TERMS: Final = 256 * 1024  # bytes
_PREFIX: Final = "sk-strongroom-"
_ID: Final = re.compile(r"[0-9a-f]{16}", re.ASCII)
_IDS: Final = "Give the id, the 16 letters after sk-strongroom-; `serving account show NAME` lists them."
_KEY: Final = re.compile(rf"{_PREFIX}([0-9a-f]{{16}})-[A-Za-z0-9_-]{{43}}", re.ASCII)


class Account(Record, frozen=True, kw_only=True):
    """A customer and its limits."""

    format: Literal["strongroom/account@1"] = "strongroom/account@1"
    name: str
    status: Literal["active", "closed"] = "active"
    rpm: int
    tokens_per_day: int
    tier: str = FIRST  # what it may learn beside the text
    org: str = ""  # the organisation whose limits it shares
    more: Limits = NONE  # limits of the kinds that have no member here
    created: str

    @property
    def limits(self) -> Limits:
        """All of its limits."""
        return replace(self.more, requests=self.rpm, tokens=self.tokens_per_day)


class ApiKey(Record, frozen=True, kw_only=True):
    """A key of an account; only its digest is kept."""

    format: Literal["strongroom/api-key@1"] = "strongroom/api-key@1"
    id: str
    account: str
    digest: str  # hexadecimal SHA-256 of the key as the customer sends it
    status: Literal["live", "revoked"] = "live"
    limits: Limits = NONE
    created: str


class Terms(Record, frozen=True, kw_only=True):
    """A version of the terms of use."""

    format: Literal["strongroom/terms@1"] = "strongroom/terms@1"
    version: int
    text: str
    published: str

    @property
    def digest(self) -> str:
        """SHA-256 of ``version N``, a newline and the text: what is accepted is this version and no other."""
        return hashlib.sha256(f"version {self.version}\n{self.text}".encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Standing:
    """An API key, and the digest of the terms that were accepted with it last (empty: none)."""

    key: ApiKey
    accepted: str


class Accounts:
    """The customers of one home."""

    def __init__(self, deeds: Deeds, journal: Journal) -> None:
        """Keep everything as `deeds`; acceptances are entries of their own in the ledger behind `journal`."""
        self._deeds = deeds
        self._journal = journal

    # ── accounts ─────────────────────────────────────────────────────────────────────────────────────────────────────
    def add(
        self, who: Identity, name: str, *, limits: Limits = FIRST_LIMITS, tier: str = FIRST, org: str = ""
    ) -> Account:
        """Make an account; what `limits` leaves open of requests and tokens is as for any new one.

        Raises:
            AlreadyExists: there is one of that name, or there was.
            BadInput: a limit that is no limit, or a tier that there is not.

        """
        check_name(name, what="account")
        check_limits(limits, where=f"account:{name}")
        if self._deeds.read(f"account:{name}", Account) is not None:
            remedy = "Choose another name: one that was used is never free again."
            raise AlreadyExists("there is an account of that name, or was", where=f"account:{name}", remedy=remedy)
        account = _account(name, FIRST_LIMITS.over(limits), tier=tier_of(tier).name, org=org, created=self._now())
        self._deeds.enter(who, f"account:{name}", account, why="add an account")
        return account

    def find(self, name: str) -> Account:
        """Return an account.

        Raises:
            NoSuchAccount: there is none of that name.

        """
        account = self._deeds.read(f"account:{check_name(name, what='account')}", Account)
        if account is None:
            raise NoSuchAccount("there is no such account", where=f"account:{name}")
        return account

    def change(
        self, who: Identity, name: str, *, limits: Limits = NONE, tier: str | None = None, org: str | None = None
    ) -> Account:
        """Change an account's limits, tier and organisation; a running gateway holds it to the new ones at once.

        What is None stays. A limit of 0 is taken away, but not those of requests and tokens, which every account has;
        the organisation ``""`` is none.

        Raises:
            BadInput: a limit that is no limit, a tier that there is not, or the account is closed.

        """
        old = self._open(name)
        check_limits(limits, where=f"account:{name}", zero=True)
        new = replace(
            _account(name, old.limits.over(limits), tier=old.tier, org=old.org, created=old.created),
            tier=old.tier if tier is None else tier_of(tier).name,
            org=old.org if org is None else org,
        )
        self._deeds.enter(who, f"account:{name}", new, why="change limits")
        return new

    def close(self, who: Identity, name: str) -> Account:
        """Close an account: none of its keys is let in any more."""
        closed = replace(self.find(name), status="closed")
        self._deeds.enter(who, f"account:{name}", closed, why="close the account")
        return closed

    def names(self) -> list[str]:
        """Return the names of all accounts, closed ones too."""
        subjects = self._deeds.subjects("account:")
        return [one.partition(":")[2] for one in subjects if self._is_known(one)]

    def _is_known(self, subject: str) -> bool:
        """Whether anything counts for a subject, or can't be judged any more: that is not to be passed over."""
        try:
            return bool(self._deeds.history(subject))
        except TamperError:
            return True

    def _open(self, name: str) -> Account:
        account = self.find(name)
        if account.status != "active":
            raise BadInput("the account is closed, for good", where=f"account:{name}", remedy="Make another account.")
        return account

    # ── keys ─────────────────────────────────────────────────────────────────────────────────────────────────────────
    def add_key(self, who: Identity, account: str, *, limits: Limits = NONE) -> tuple[ApiKey, Secret]:
        """Make a key for `account`; return it with the key itself, which is kept nowhere."""
        check_limits(limits, where="key")
        self._open(account)
        ident = secrets.token_hex(8)
        shown = f"{_PREFIX}{ident}-{secrets.token_urlsafe(32)}"
        key = ApiKey(id=ident, account=account, digest=hashed(shown), limits=limits, created=self._now())
        self._deeds.enter(who, f"apikey:{ident}", key, why=f"add a key for {account}")
        return key, Secret(shown.encode())

    def limit_key(self, who: Identity, ident: str, limits: Limits) -> ApiKey:
        """Set limits of a key; 0 takes one away, and what is not given stays.

        Raises:
            BadInput: a limit that is no limit, or the key is revoked.

        """
        check_limits(limits, where=f"apikey:{ident}", zero=True)
        old = self.key(ident)
        if old.status != "live":
            raise BadInput("the key is revoked, for good", where=f"apikey:{ident}", remedy="Make another key.")
        new = replace(old, limits=old.limits.over(limits))
        self._deeds.enter(who, f"apikey:{ident}", new, why="change limits")
        return new

    def revoke_key(self, who: Identity, ident: str) -> ApiKey:
        """Revoke a key for ever. Harmless when repeated."""
        key = self.key(ident)
        if key.status == "live":
            key = replace(key, status="revoked")
            self._deeds.enter(who, f"apikey:{ident}", key, why="revoke the key")
        return key

    def key(self, ident: str) -> ApiKey:
        """Return the key of that id.

        Raises:
            NoSuchApiKey: there is none.

        """
        if not _ID.fullmatch(ident):  # perhaps the key itself: not to be repeated
            raise NoSuchApiKey("that is no key's id", where="key id", remedy=_IDS)
        key = self._deeds.read(f"apikey:{ident}", ApiKey)
        if key is None:
            raise NoSuchApiKey("there is no such key", where=f"apikey:{ident}")
        return key

    def keys(self, account: str | None = None) -> list[Standing]:
        """Return all keys, of `account` only if given, revoked ones too."""
        found = (self._deeds.read(one, ApiKey) for one in self._deeds.subjects("apikey:"))
        return [self._standing(key) for key in found if key is not None and account in {None, key.account}]

    # ── terms ────────────────────────────────────────────────────────────────────────────────────────────────────────
    def publish(self, who: Identity, text: str) -> Terms:
        """Put a new version of the terms in force: from now on a key is let in once it has accepted them.

        Raises:
            BadInput: they are empty, or the ones in force.
            InputTooLarge: over 256 KiB.

        """
        if not text.strip():
            raise BadInput("the terms are empty", where="terms")
        if len(text.encode()) > _MOST_TERMS:
            raise InputTooLarge(f"over {_MOST_TERMS} bytes", where="terms")
        old = self._deeds.read("terms", Terms)
        if old is not None and old.text == text:
            raise BadInput(f"these are the terms in force, version {old.version}", where="terms")
        terms = Terms(version=1 if old is None else old.version + 1, text=text, published=self._now())
        self._deeds.enter(who, "terms", terms, why=f"publish version {terms.version}")
        return terms

    def terms(self) -> Terms:
        """Return the terms in force.

        Raises:
            NoTerms: none were published.

        """
        terms = self._deeds.read("terms", Terms)
        if terms is None:
            raise NoTerms("no terms were published", where="terms")
        return terms

    def terms_digest(self) -> str:
        """Return the digest of the terms in force; empty where none were published."""
        terms = self._deeds.read("terms", Terms)
        return "" if terms is None else terms.digest

    def accept(self, key: ApiKey, terms: Terms, *, by: str) -> None:
        """Note that `by` accepted `terms` with `key`, once."""
        if self._standing(key).accepted == terms.digest:
            return
        act = Act(by, ACCEPTED, f"apikey:{key.id}")
        self._journal.record(act, "done", detail={"terms": terms.digest, "version": terms.version})

    def acceptance(self, key: ApiKey) -> tuple[Entry, bytes]:
        """Return the ledger's entry of the acceptance that was made with `key` last, and its proof bundle.

        Raises:
            NoTerms: none were accepted with it.

        """
        newest = self._journal.ledger.latest(ACCEPTED, f"apikey:{key.id}")
        if newest is None:
            remedy = "Its holder accepts them with POST /terms, or `strongroom serving terms accept`."
            raise NoTerms("no terms were accepted with this key", where=f"apikey:{key.id}", remedy=remedy)
        return newest, self._journal.ledger.prove(newest.index)

    def recognise(self, shown: Secret) -> ApiKey:
        """Return which live key somebody shows.

        Raises:
            UnknownApiKey: it is none of ours, or was revoked.

        """
        text = shown.reveal().decode("ascii", "replace").strip()
        form = _KEY.fullmatch(text)
        key = None if form is None else self._deeds.read(f"apikey:{form[1]}", ApiKey)
        if key is None or key.status != "live" or not secrets.compare_digest(key.digest, hashed(text)):
            raise UnknownApiKey("this is no live key of this home", where="API key")
        return key

    # ── for the gateway ──────────────────────────────────────────────────────────────────────────────────────────────
    def roster(self, version: int, models: tuple[str, ...]) -> Roster:
        """Return what a gateway judges requests by. What was altered is left out, and logged: nobody gets in by it."""
        try:
            terms = self.terms_digest()
        except TamperError as error:
            log.error("the terms can not be read", code=error.code, where=error.where)
            terms = _UNREADABLE
        accounts = [one for one in map(self._account, self._deeds.subjects("account:")) if one is not None]
        keys = [one for subject in self._deeds.subjects("apikey:") if (one := self._entry(subject, terms)) is not None]
        return Roster(
            version=version,
            accounts=tuple(accounts),
            keys=tuple(keys),
            terms=terms,
            models=models,
        )

    def _account(self, subject: str) -> RosterAccount | None:
        try:
            one = self._deeds.read(subject, Account)
        except TamperError as error:
            log.error("account left out", code=error.code, where=subject)
            return None
        active = one is not None and one.status == "active"
        return one and RosterAccount(one.name, active, one.rpm, one.tokens_per_day, one.tier, one.org, one.more)

    def _entry(self, subject: str, terms: str) -> RosterKey | None:
        try:
            key = self._deeds.read(subject, ApiKey)
        except TamperError as error:
            log.error("API key left out", code=error.code, where=subject)
            return None
        if key is None or key.status != "live":
            return None
        accepted = not terms or self._standing(key).accepted == terms
        return RosterKey(key.id, bytes.fromhex(key.digest), key.account, accepted, key.limits)

    def _standing(self, key: ApiKey) -> Standing:
        newest = self._journal.ledger.latest(ACCEPTED, f"apikey:{key.id}")
        return Standing(key, "" if newest is None else str(newest.event.detail.get("terms", "")))

    def _now(self) -> str:
        return stamp(self._journal.now())


def _account(name: str, limits: Limits, *, tier: str, org: str, created: str) -> Account:
    """Return an account, whose limits of requests and tokens are members of their own.

    Raises:
        BadInput: one of these two was taken away.

    """
    rpm, tokens = limits.requests, limits.tokens
    if rpm is None or tokens is None:
        raise BadInput("an account has limits of requests and of tokens", where=f"account:{name}")
    more = replace(limits, requests=None, tokens=None)
    return Account(name=name, rpm=rpm, tokens_per_day=tokens, tier=tier, org=org, more=more, created=created)


def hashed(shown: str) -> str:
    """Return what is kept of an API key: its hexadecimal SHA-256."""
    return hashlib.sha256(shown.encode()).hexdigest()
