"""What is written down about a request: who asked, by which route, how it ended, how many tokens. Never a word of it.

The gateway appends lines to a spool of its own, one `write` a line, so that a killed gateway loses none; the worker
sums them up into the ledger.
"""

from __future__ import annotations

import msgspec


class _Line(msgspec.Struct, frozen=True, kw_only=True, tag=True, omit_defaults=True):
    """A line of the spool: one JSON object and a newline."""

    id: str  # of the request, as the client is told it (x-request-id)
    at: str  # UTC, as the ledger stamps it


class Admitted(_Line, frozen=True, kw_only=True):
    """A request was let in, and the engine asked. Written before it is."""

    account: str
    key: str
    route: str
    model: str
    reserved: int  # tokens: what it may use at most
    org: str = ""  # the account's organisation
    money: int = 0  # billionths: what it may cost at most
    texts: int = 0  # to be embedded
    origin: str = ""  # keyed hash of the client's address, under a key that lives a day at most


class Settled(_Line, frozen=True, kw_only=True):
    """An admitted request is over."""

    account: str
    status: int  # HTTP status; 499: the client left
    finish: str  # stop, length, content_filter, or the error's code
    prompt_tokens: int
    completion_tokens: int
    marked_tokens: int = 0
    streamed: bool = False
    money: int = 0  # billionths
    bytes: int = 0  # of text that the client got, or of vectors
    logprobs: int = 0  # values that the client got
    texts: int = 0  # embedded
    rank: int = 0  # of the hidden size, what the account may have learnt so far at most
    recall: str = ""  # the rule by which it repeats the training text: run, cover, gathered or value
    acted: str = ""  # what was done about it: stop, refuse, resample or mark
    withheld: int = 0  # tokens that were written and neither shown nor charged
    near: int = 0  # 1: it came near a rule


class Refused(_Line, frozen=True, kw_only=True):
    """A request was not let in. `account` and `key` are empty where the key was unknown.

    Like refusals within one second are one line: `count` of them, with the id of the last.
    """

    account: str = ""
    key: str = ""
    route: str = ""
    status: int
    code: str
    rule: str = ""  # of what may be disclosed: the one that fired
    count: int = 1  # like refusals that were put together


Line = Admitted | Settled | Refused
