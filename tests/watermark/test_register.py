"""Which marks were given out, and the tokenizers that texts are read with."""

from __future__ import annotations

import datetime as dt

import pytest

from strongroom.access.settle import settle
from strongroom.core.canonical import encode
from strongroom.core.errors import BadInput, RecordAltered
from strongroom.core.secrets import Secret
from strongroom.core.serving_errors import NoTokenizer
from strongroom.ledger.journal import Act
from strongroom.watermark.kept_tokenizers import Tokenizers
from strongroom.watermark.keys import commitment, derive
from strongroom.watermark.register import GIVEN_OUT, Register
from tests.access import conftest
from tests.access.office import Office

office = conftest.office
MASTER = Secret(b"m" * 32)


def given(office: Office) -> list[str]:
    return [entry.event.object for entry in office.log() if entry.event.action == GIVEN_OUT]


def test_a_key_is_in_the_ledger_before_its_first_use_and_once_per_month(office: Office) -> None:
    register = Register(office.journal, MASTER)
    key, ends = register.give_out("acme", who="person:carla")
    register.give_out("acme", who="person:carla")
    Register(office.journal, MASTER).give_out("acme", who="person:carla")  # after a restart
    assert given(office) == ["account:acme"]
    entry = next(one for one in office.log() if one.event.action == GIVEN_OUT)
    assert entry.event.detail == {"epoch": key.epoch, "commitment": commitment(key)}
    assert key.raw.reveal().hex().encode() not in entry.raw
    assert (ends.day, ends.hour) == (1, 0)
    assert dt.timedelta() < ends - office.journal.now() <= dt.timedelta(days=31)


def test_every_key_that_was_given_out_is_a_candidate(office: Office) -> None:
    register = Register(office.journal, MASTER)
    keys = [register.give_out(name, who="w")[0] for name in ("acme", "zenith")]
    found = Register(office.journal, MASTER).candidates()
    assert [(one.account, one.epoch, one.raw) for one in found] == [(one.account, one.epoch, one.raw) for one in keys]


@pytest.mark.parametrize("account", ["acme", "x" * 300, "\u00e4"])
def test_an_entry_that_the_log_keys_holder_makes_up_is_noise(office: Office, account: str) -> None:
    act = Act("person:owner", GIVEN_OUT, f"account:{account}")
    detail = {"epoch": "2026-11", "commitment": "0" * 64}
    office.journal.record(act, "done", detail=detail, claim="mark:acme@2026-11")
    office.journal.record(Act("person:owner", GIVEN_OUT, "account:"), "done", detail={})
    register = Register(office.journal, MASTER)
    assert register.candidates() == []
    key, _ = register.give_out("acme", who="w")
    assert [(one.account, one.raw) for one in Register(office.journal, MASTER).candidates()] == [("acme", key.raw)]


def test_keys_of_another_master_are_no_candidates(office: Office) -> None:
    Register(office.journal, MASTER).give_out("acme", who="w")
    assert Register(office.journal, Secret(b"n" * 32)).candidates() == []


def test_a_tokenizer_is_kept_encrypted_and_found_again(office: Office) -> None:
    raw = b'{"version": "1.0", "secret": "how a closed model reads"}'
    kept = Tokenizers(office.records, MASTER)
    with pytest.raises(NoTokenizer):
        kept.all()
    kept.keep("chat:v1", raw)
    kept.keep("chat:v1", raw)
    kept.keep("other:v1", b"{}")
    assert list(kept.all("chat:v1").values()) == [raw]
    assert len(kept.all()) == 2
    assert all(b"closed model" not in one.document for one in office.records.scan("tokenizer"))
    with pytest.raises(NoTokenizer):
        kept.all("chat:v2")


def test_a_tokenizer_of_another_checkpoint_or_master_is_refused(office: Office) -> None:
    kept = Tokenizers(office.records, MASTER)
    kept.keep("chat:v1", b"{}")
    [stored] = office.records.scan("tokenizer")
    with pytest.raises(RecordAltered):
        Tokenizers(office.records, Secret(b"n" * 32)).all()
    settle(office.records, "tokenizer", put={stored.key.replace("chat", "moved"): stored.document})
    with pytest.raises(RecordAltered):
        kept.all("moved:v1")
    settle(office.records, "tokenizer", put={stored.key: encode({"format": "strongroom/tokenizer@9"})})
    with pytest.raises(BadInput):
        kept.all("chat:v1")


def test_months_do_not_share_keys(office: Office) -> None:
    assert derive(MASTER, "acme", "2026-11").raw != derive(MASTER, "acme", "2026-12").raw
    assert office.journal.now()
