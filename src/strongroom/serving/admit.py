"""Who is let in: pure decisions over the roster that control pushed last."""

from __future__ import annotations

import hashlib
from typing import Final

import msgspec
from msgspec.structs import replace

from strongroom.serving.disclosure.tiers import CLOSED, TIERS, Tier
from strongroom.serving.quotas import Budget, budgets_of
from strongroom.serving.roster import Roster, RosterAccount, RosterKey
from strongroom.serving.wire_errors import Refusal, refuse

_BEARER: Final = b"bearer "
_LONGEST_KEY: Final = 512


class Caller(msgspec.Struct, frozen=True):
    """A live key, the account it belongs to, and the budgets over it: what is not limited costs a request nothing."""

    key: RosterKey
    account: RosterAccount
    tier: Tier = CLOSED  # the account's; one that this gateway does not know shows nothing
    minute: tuple[Budget, ...] = ()  # requests a minute, the account's first
    held: tuple[Budget, ...] = ()  # of all other kinds, in the order in which they are held


class Book:
    """A roster, ready for look-ups. It is replaced as a whole, so no copy of a limit can outlive a change."""

    __slots__ = ("accounts", "callers", "keys", "models", "orgs", "roster")

    def __init__(self, roster: Roster, *, models: tuple[str, ...] = ()) -> None:
        """Index `roster`; `models` are served in place of the roster's where there are any."""
        self.roster = roster
        self.models = models or roster.models
        self.accounts = {one.name: one for one in roster.accounts}
        self.keys = {key.id: key for key in roster.keys}
        self.orgs = {one.name: one for one in roster.orgs}
        self.callers = {
            key.digest: self._caller(key, account)
            for key in roster.keys
            if (account := self.accounts.get(key.account)) is not None
        }

    def budgets(self) -> dict[str, Budget]:
        """Return every budget of the roster by its name."""
        roster = self.roster
        found = budgets_of("total", "", roster.total)
        for org in roster.orgs:
            found += budgets_of("org", org.name, org.limits)
        for account in roster.accounts:
            found += budgets_of("account", account.name, account.limits) if account.active else []
        for key in roster.keys:
            found += budgets_of("key", key.id, key.limits)
        return {one.id: one for one in found}

    def _caller(self, key: RosterKey, account: RosterAccount) -> Caller:
        over = budgets_of("account", account.name, account.limits) + budgets_of("key", key.id, key.limits)
        if account.org:
            org = self.orgs.get(account.org)
            # one whose record can't be read has no limit that could be kept, so nobody of it is let in
            account = account if org else replace(account, active=False)
            over += budgets_of("org", account.org, org.limits) if org else []
        over += budgets_of("total", "", self.roster.total)
        minute = [one for one in over if one.kind == "requests"]
        # streams first: they are all or nothing, while of tokens and money a rest will do
        held = sorted((one for one in over if one.kind != "requests"), key=lambda one: one.kind != "streams")
        tier = TIERS.get(account.tier, CLOSED)
        return Caller(key, account, tier, tuple(minute), tuple(held))

    def identify(self, authorization: bytes | None) -> Caller | Refusal:
        """Return whose key it is. The look-up is by the key's SHA-256, so its time says nothing about any key."""
        if authorization is None or authorization[:7].lower() != _BEARER:
            return refuse("missing_api_key")
        shown = authorization[7:].strip()
        if not 0 < len(shown) <= _LONGEST_KEY:
            return refuse("invalid_api_key")
        return self.callers.get(hashlib.sha256(shown).digest()) or refuse("invalid_api_key")

    def still(self, caller: Caller) -> Refusal | None:
        """Return why a caller who was let in before must go now, if so. New terms let open requests end."""
        key = self.keys.get(caller.key.id)
        if key is None or key.account != caller.account.name or key.digest != caller.key.digest:
            return refuse("invalid_api_key")
        now = self.callers.get(key.digest)
        return None if now is not None and now.account.active else refuse("account_inactive")


def may_ask(caller: Caller, *, terms: bool = False) -> Refusal | None:
    """Return why this caller may not use a model, if so; whoever only reads or accepts `terms` need not have yet."""
    if not caller.account.active:
        return refuse("account_inactive")
    return None if terms or caller.key.accepted else refuse("terms_not_accepted")
