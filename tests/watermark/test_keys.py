"""Mark keys: derived, distinct, committed to, and never printed."""

from __future__ import annotations

import traceback
from datetime import UTC, datetime, timedelta, timezone

import pytest
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from hypothesis import given
from hypothesis import strategies as st

from strongroom.core.errors import BadInput
from strongroom.core.secrets import Secret
from strongroom.watermark.keys import MarkKey, commitment, derive, epoch_of
from tests.watermark.texts import MASTER


def test_a_key_is_hkdf_of_master_epoch_and_account() -> None:
    info = b'["strongroom/mark@1","acme","gumbel4"]'
    raw = HKDF(SHA256(), 16, salt=b"2026-11", info=info).derive(MASTER.reveal())
    assert derive(MASTER, "acme", "2026-11").raw.reveal() == raw


@given(st.tuples(st.text(min_size=1, max_size=9), st.text(min_size=1, max_size=9)), st.tuples(st.text(min_size=1, max_size=9), st.text(min_size=1, max_size=9)))  # fmt: skip  # noqa: E501
def test_two_accounts_or_epochs_never_share_a_key(one: tuple[str, str], other: tuple[str, str]) -> None:
    keys = []
    for account, epoch in (one, other):
        try:
            keys.append(derive(MASTER, account, epoch))
        except BadInput:
            return
    same = one == other
    assert (keys[0].raw == keys[1].raw) is same
    assert (commitment(keys[0]) == commitment(keys[1])) is same


def test_a_commitment_binds_account_and_epoch() -> None:
    raw = Secret(bytes(16))
    made = {commitment(MarkKey(account, epoch, raw)) for account in ("a", "b") for epoch in ("x", "y")}
    assert len(made) == 4


def test_a_key_never_prints() -> None:
    key = derive(MASTER, "acme", "2026-11")
    assert repr(key) == str(key) == "MarkKey(account='acme', epoch='2026-11')"
    assert key.raw.reveal().hex() not in "".join(traceback.format_exception(BadInput(f"{key}", where="test")))


@pytest.mark.parametrize(
    ("master", "account", "epoch"),
    [(31, "a", "b"), (32, "", "b"), (32, "a", ""), (32, "a" * 257, "b"), (32, "\ud800", "b"), (32, "a", "\ud800")],
)
def test_what_no_key_can_come_from_is_refused(master: int, account: str, epoch: str) -> None:
    with pytest.raises(BadInput):
        derive(Secret(bytes(master)), account, epoch)


def test_a_key_of_another_length_is_refused() -> None:
    with pytest.raises(BadInput):
        MarkKey("a", "b", Secret(bytes(15)))


def test_an_epoch_is_a_month_in_utc() -> None:
    assert epoch_of(datetime(2026, 11, 30, 23, 59, tzinfo=UTC)) == "2026-11"
    assert epoch_of(datetime(2026, 12, 1, 0, 30, tzinfo=timezone(timedelta(hours=1)))) == "2026-11"
    with pytest.raises(BadInput):
        epoch_of(datetime(2026, 11, 1))  # noqa: DTZ001 - a moment without a zone is the fault
