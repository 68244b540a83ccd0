"""What a gateway knows of accounts, keys, terms and budgets, and how it asks control for more.

A gateway holds no home: control pushes the whole roster at every change and waits for it to be confirmed, so that a key
that is revoked is dead when the command returns. Budgets of all kinds are leased in slices: what is leased counts as
used until it is given back, so no failure lets anybody overshoot, and a lost gateway costs one slice at most.
"""

from __future__ import annotations

import msgspec
from msgspec.structs import replace

from strongroom.serving.disclosure.tiers import FIRST
from strongroom.serving.quotas import FREE, NONE, Limits, Prices
from strongroom.serving.recall.policy import Policy


class RosterAccount(msgspec.Struct, frozen=True):
    """An account and its limits."""

    name: str
    active: bool
    rpm: int  # requests a minute
    tokens_per_day: int  # prompt and completion tokens a UTC day
    tier: str = FIRST  # what it may learn beside the text
    org: str = ""  # the organisation that it belongs to
    more: Limits = NONE  # limits of the kinds that have no member here

    @property
    def limits(self) -> Limits:
        """All of its limits."""
        return replace(self.more, requests=self.rpm, tokens=self.tokens_per_day)


class RosterOrg(msgspec.Struct, frozen=True):
    """An organisation, whose accounts share its limits."""

    name: str
    limits: Limits


class RosterKey(msgspec.Struct, frozen=True):
    """A live API key: revoked ones are not in the roster."""

    id: str
    digest: bytes  # SHA-256 of the whole key
    account: str
    accepted: bool  # the terms in force were accepted with this key (true where none are published)
    limits: Limits = NONE


class RosterRecall(msgspec.Struct, frozen=True):
    """The window index by which answers are looked at. An empty `folder`: there is one, but it can't be had."""

    index: str = ""  # its id
    digest: str = ""  # of its header
    folder: str = ""
    key: bytes = b""
    policy: Policy = Policy()

    def __repr__(self) -> str:
        """Return a text without the key."""
        return f"RosterRecall({self.index!r})"


class _Message(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """A message between control and gateway."""


class Hello(_Message, frozen=True, kw_only=True):
    """Gateway to control, first of all. `fresh`: it holds no lease and has no request open, so it was just started.

    `held`: what it holds of budgets that are not of a day, by budget, for a control that was started anew.
    """

    fresh: bool
    gateway: str = ""  # drawn when its process began
    pid: int = 0
    held: dict[str, int] = {}


class Roster(_Message, frozen=True, kw_only=True):
    """Control to gateway: everything, as of `version`."""

    version: int
    accounts: tuple[RosterAccount, ...]
    keys: tuple[RosterKey, ...]
    terms: str  # digest of the terms in force; empty: none are published
    models: tuple[str, ...]
    orgs: tuple[RosterOrg, ...] = ()
    total: Limits = NONE  # of everybody together
    prices: Prices = FREE
    salt: bytes = b""  # keys the hashes of addresses in usage lines; another one each day
    veil: bytes = b""  # 32 bytes that key what softens answers: the same in every gateway and after every start
    recall: RosterRecall | None = None  # None: answers are not looked at


class Alive(_Message, frozen=True, kw_only=True):
    """Control to gateway, every few seconds: I am there, and the last roster is the newest."""


class Applied(_Message, frozen=True, kw_only=True):
    """Gateway to control: requests are judged by this roster from now on, and streams of dead keys are cut."""

    version: int


class LeaseWanted(_Message, frozen=True, kw_only=True):
    """Gateway to control: `least` is needed of a budget, and `amount` would be welcome. `day`: 2026-11-23, or empty."""

    budget: str
    day: str = ""
    least: int
    amount: int


class Leased(_Message, frozen=True, kw_only=True):
    """Control to gateway: so much (0: nothing is left), durably used until returned. Answers in order asked."""

    budget: str
    day: str = ""
    amount: int


class LeaseReturned(_Message, frozen=True, kw_only=True):
    """Gateway to control: so much of a lease was not used, or is free again."""

    budget: str
    day: str = ""
    amount: int


class Recall(_Message, frozen=True, kw_only=True):
    """Control to gateway: another is short of this budget; give back what lies idle."""

    budget: str
    day: str = ""


class TermsWanted(_Message, frozen=True, kw_only=True):
    """Gateway to control: somebody who shows the key `key` wants to read the terms in force."""

    request: str
    key: str


class TermsText(_Message, frozen=True, kw_only=True):
    """Control to gateway: the terms in force; empty where there are none."""

    request: str
    digest: str
    version: int
    text: str


class TermsAccepted(_Message, frozen=True, kw_only=True):
    """Gateway to control: whoever shows the key `key` accepts the terms of that digest. Answered by a `TermsText`."""

    request: str
    key: str
    digest: str


ToGateway = Roster | Alive | Leased | Recall | TermsText
ToControl = Hello | Applied | LeaseWanted | LeaseReturned | TermsWanted | TermsAccepted


class Refresh(_Message, frozen=True, kw_only=True):
    """A command to control: something changed in the home; answer when every gateway judges by it."""


class Refreshed(_Message, frozen=True, kw_only=True):
    """Control to a command: this roster is in force at all `gateways` that are connected."""

    version: int
    gateways: int
