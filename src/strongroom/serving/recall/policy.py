"""What is done about an answer that repeats the training text, and how much repeating is too much."""

from __future__ import annotations

from typing import Final, Literal, get_args

import msgspec

from strongroom.core.canonical import Record
from strongroom.core.errors import BadInput

Action = Literal["stop", "refuse", "resample", "mark"]
Tell = Literal["plain", "quiet"]
ACTIONS: Final[tuple[Action, ...]] = get_args(Action)
TELLS: Final[tuple[Tell, ...]] = get_args(Tell)

LONGEST_HOLD: Final = 200  # words
MOST_INCIDENTS: Final = 1_000_000
MOST_TRIES: Final = 10
SPAN: Final = 100  # words that the rule of cover looks back over
_EDITS: Final = ((7, 0.95, 4.5), (12, 0.65, 0.0))  # every so many-th word; share of hits to ask for; least to expect
_FEWEST: Final = 3


class Policy(Record, frozen=True, kw_only=True):
    """What the operator decides. The rules themselves follow from the index (`rules_of`)."""

    action: Action = "stop"
    tell: Tell = "plain"  # whether the client learns that something was held back
    hold: int = 24  # words: text leaves when so many further words have come, or the answer has ended
    gathered: int = 400  # words of one document that an account may gather in pieces on a UTC day; 0: no such limit
    incidents_per_day: int = 20  # of an account, until it is shut out for the day; 0: no such limit
    tries: int = 2  # other samples, at most


class Rules(msgspec.Struct, frozen=True, kw_only=True):
    """When an answer repeats too much, in terms of one index."""

    run: int  # words in a row, of one document
    broad: int  # words in a row, of whichever documents
    hits: int  # distinct windows of one document within `SPAN` words
    near_run: int  # the marks from which on it is written down that an answer came near
    near_hits: int


def rules_of(window: int, stride: int) -> Rules:
    """Return the rules for an index of such windows.

    A copy with every k-th word changed has runs of k - 1 words, and of each run's k - window places every stride-th
    is known: so many hits are to be expected in a span. A part of that is asked for, with k = 7 where windows are
    short enough to leave any, else 12. benchmarks/recall.py measures what comes of it.
    """
    hits = _FEWEST
    for every, share, least in _EDITS:
        expected = SPAN / every * max(0, every - window) / stride
        if expected >= max(least, 1.0):
            hits = max(_FEWEST, round(share * expected))
            break
    return Rules(run=20, broad=32, hits=hits, near_run=12, near_hits=max(2, (hits + 1) // 2))


def check_policy(policy: Policy) -> None:
    """Accept a policy that can be kept.

    Raises:
        BadInput: a number is out of its bounds, or two parts contradict each other.

    """
    if not 0 <= policy.hold <= LONGEST_HOLD:
        raise BadInput(f"from 0 to {LONGEST_HOLD} words can be held back", where="recall")
    if not (0 <= policy.incidents_per_day <= MOST_INCIDENTS and 0 <= policy.gathered <= MOST_INCIDENTS):
        raise BadInput(f"a limit of a day is from 0 to {MOST_INCIDENTS:,}", where="recall")
    if not 0 <= policy.tries <= MOST_TRIES:  # below 0 it would never end
        raise BadInput(f"from 0 to {MOST_TRIES} other samples can be tried", where="recall")
    if policy.tell == "quiet" and policy.action == "refuse":
        raise BadInput("a refusal can't be quiet: take stop or resample", where="recall")
