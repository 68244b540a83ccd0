"""Entries: one spelling per event, a limit, and strict reading."""

from __future__ import annotations

import sys
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strongroom.core import canonical
from strongroom.core.errors import BadInput, EntryTooLarge
from strongroom.ledger import events
from strongroom.ledger.events import Event

TEXTS = st.text(st.characters(exclude_categories=["Cs"]))
EVENTS = st.builds(
    Event,
    id=TEXTS,
    at=TEXTS,
    who=TEXTS,
    action=TEXTS,
    object=TEXTS,
    host=TEXTS,
    why=TEXTS,
    outcome=st.sampled_from(["granted", "refused", "done", "failed"]),
    detail=st.dictionaries(TEXTS, TEXTS | st.booleans() | st.integers(-(2**53) + 1, 2**53 - 1)),
    claim=st.none() | TEXTS,
)


@given(EVENTS)
def test_bytes_are_those_of_rfc_8785_and_read_back(event: Event) -> None:
    raw = events.encode(event)
    assert raw == canonical.encode(event)
    assert events.decode(raw, where="entry") == event


def test_every_code_point_is_spelled_as_rfc_8785_asks(make_event: Callable[..., Event]) -> None:
    points = [chr(code) for code in range(sys.maxunicode + 1) if not 0xD800 <= code < 0xE000]
    for start in range(0, len(points), 12_000):
        event = make_event(why="".join(points[start : start + 12_000]))
        assert events.encode(event) == canonical.encode(event)


def test_an_entry_of_65535_bytes_fits_and_one_more_does_not(make_event: Callable[..., Event]) -> None:
    room = 65_535 - len(events.encode(make_event(id="evt_1", why="")))
    assert len(events.encode(make_event(id="evt_1", why="x" * room))) == 65_535
    with pytest.raises(EntryTooLarge):
        events.encode(make_event(id="evt_1", why="x" * (room + 1)))


@pytest.mark.parametrize("detail", [{"n": 2**53}, {"n": -(2**53)}, {"n": "\ud800"}, {"n": object()}])
def test_values_without_a_canonical_form_are_refused(
    make_event: Callable[..., Event], detail: dict[str, object]
) -> None:
    with pytest.raises(BadInput):
        events.encode(make_event(detail=detail))


def test_other_spellings_are_refused(make_event: Callable[..., Event]) -> None:
    raw = events.encode(make_event(detail={"n": 1}))
    for wrong in (
        raw + b"\n",
        raw.replace(b":", b": ", 1),
        raw.replace(b'"n":1', b'"n":1.0'),
        raw.replace(b"event@1", b"event@2"),
        raw.replace(b'"who"', b'"whom"'),
        raw.replace(b'"claim":null,', b""),
        raw[:-1],
        b"\xff",
    ):
        with pytest.raises(BadInput):
            events.decode(wrong, where="entry")
