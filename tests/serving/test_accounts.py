"""Accounts, keys and terms: what counts, who may say so, and what somebody who only writes files can't do."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from strongroom.access.deeds import Deeds
from strongroom.access.settle import settle
from strongroom.core.canonical import digest, encode
from strongroom.core.errors import AlreadyExists, BadInput, BadName, Busy, NotPermitted, RecordAltered
from strongroom.core.secrets import Secret
from strongroom.core.serving_errors import NoSuchAccount, NoSuchApiKey, NoTerms, UnknownApiKey
from strongroom.ledger.journal import Act
from strongroom.serving.accounts import SERVING, Account, Accounts, ApiKey, hashed
from strongroom.serving.quotas import Limits
from tests.access.office import Office


def make(accounts: Accounts, office: Office, name: str = "acme") -> tuple[Account, ApiKey, Secret]:
    account = accounts.add(office.owner, name, limits=Limits(requests=7, tokens=900))
    key, shown = accounts.add_key(office.owner, name)
    return account, key, shown


# ── what counts ──────────────────────────────────────────────────────────────────────────────────────────────────────
def test_an_account_and_its_key_are_in_the_roster(accounts: Accounts, office: Office) -> None:
    account, key, shown = make(accounts, office)
    roster = accounts.roster(3, ("chat:v1",))
    assert [(one.name, one.active, one.rpm, one.tokens_per_day) for one in roster.accounts] == [("acme", True, 7, 900)]
    [entry] = roster.keys
    assert (entry.id, entry.account, entry.accepted) == (key.id, account.name, True)
    assert entry.digest.hex() == hashed(shown.reveal().decode())
    assert (roster.version, roster.models, roster.terms) == (3, ("chat:v1",), "")


def test_only_a_hash_of_a_key_is_kept(accounts: Accounts, office: Office) -> None:
    _, _, shown = make(accounts, office)
    secret = shown.reveal()
    stored = b"".join(one.document for kind in ("deed",) for one in office.records.scan(kind))
    assert secret not in stored
    assert secret[len("sk-strongroom-") + 17 :] not in stored
    assert all(secret not in entry.raw for entry in office.log())


def test_a_revoked_key_is_out_of_the_roster_and_unknown(accounts: Accounts, office: Office) -> None:
    _, key, shown = make(accounts, office)
    assert accounts.recognise(shown).id == key.id
    accounts.revoke_key(office.owner, key.id)
    assert accounts.roster(1, ()).keys == ()
    with pytest.raises(UnknownApiKey):
        accounts.recognise(shown)
    assert accounts.revoke_key(office.owner, key.id).status == "revoked"


@pytest.mark.parametrize("shown", [b"", b"sk-strongroom-00", b"sk-strongroom-" + b"0" * 16 + b"-" + b"a" * 43, b"\xff"])
def test_what_is_no_key_is_unknown(accounts: Accounts, office: Office, shown: bytes) -> None:
    make(accounts, office)
    with pytest.raises(UnknownApiKey):
        accounts.recognise(Secret(shown))


def test_a_key_with_anothers_id_is_unknown(accounts: Accounts, office: Office) -> None:
    _, first, _ = make(accounts, office)
    _, second = accounts.add_key(office.owner, "acme")
    forged = second.reveal().decode().replace(second.reveal().decode()[14:30], first.id)
    with pytest.raises(UnknownApiKey):
        accounts.recognise(Secret(forged.encode()))


def test_limits_change_and_a_closed_account_is_inactive(accounts: Accounts, office: Office) -> None:
    make(accounts, office)
    assert accounts.change(office.owner, "acme", limits=Limits(requests=9)).tokens_per_day == 900
    assert accounts.find("acme").rpm == 9
    accounts.close(office.owner, "acme")
    assert not accounts.roster(1, ()).accounts[0].active
    with pytest.raises(AlreadyExists):
        accounts.add(office.owner, "acme")


def test_bad_names_and_limits_are_refused(accounts: Accounts, office: Office) -> None:
    for name in ("", "a b", "../x", "ä"):
        with pytest.raises(BadName):
            accounts.add(office.owner, name)
    for limits in (Limits(requests=0), Limits(tokens=-1), Limits(requests=2**41)):
        with pytest.raises(BadInput):
            accounts.add(office.owner, "ok", limits=limits)
    with pytest.raises(NoSuchAccount):
        accounts.add_key(office.owner, "nobody")
    with pytest.raises(NoSuchApiKey):
        accounts.revoke_key(office.owner, "0" * 16)


# ── terms ────────────────────────────────────────────────────────────────────────────────────────────────────────────
def test_terms_bind_a_key_once_it_has_accepted_that_version(accounts: Accounts, office: Office) -> None:
    _, key, _ = make(accounts, office)
    with pytest.raises(NoTerms):
        accounts.terms()
    first = accounts.publish(office.owner, "Be kind.\n")
    assert [one.accepted for one in accounts.roster(1, ()).keys] == [False]
    accounts.accept(key, first, by="account:acme")
    assert [one.accepted for one in accounts.roster(1, ()).keys] == [True]
    second = accounts.publish(office.owner, "Be kind, always.\n")
    assert (first.version, second.version) == (1, 2)
    assert [one.accepted for one in accounts.roster(1, ()).keys] == [False]
    with pytest.raises(BadInput):
        accounts.publish(office.owner, "Be kind, always.\n")


# ── who may, and what a file writer can't ────────────────────────────────────────────────────────────────────────────
def test_only_owners_and_custodians_manage_serving(accounts: Accounts, office: Office) -> None:
    accounts.add(office.add("carla", "custodian"), "acme")
    for name, role in (("rosa", "researcher"), ("ada", "auditor")):
        with pytest.raises(NotPermitted):
            accounts.add(office.add(name, role), "other")


def test_a_document_that_was_changed_is_named_and_nobody_gets_in_by_it(accounts: Accounts, office: Office) -> None:
    account, _, _ = make(accounts, office)
    raised = encode(replace(account, rpm=10_000))
    settle(office.records, "deed", put={f"account:acme/{digest(account)}": raised})
    with pytest.raises(RecordAltered):
        accounts.find("acme")
    assert accounts.roster(1, ()).accounts == ()


def forge(office: Office, subject: str, document: Account | ApiKey, **detail: str | int | bool) -> None:
    """Write what the log key's holder can: a document, and a ledger entry that names it."""
    settle(office.records, "deed", put={f"{subject}/{digest(document)}": encode(document)})
    fields = {
        "digest": digest(document),
        "after": -1,
        "key": office.owner.keyring.public.fingerprint(),
        "signature": "",
    }
    office.journal.record(Act(office.owner.label, SERVING.entered, subject), "done", detail=fields | detail)


def test_the_log_keys_holder_can_make_no_key(accounts: Accounts, office: Office) -> None:
    accounts.add(office.owner, "acme")
    shown = "sk-strongroom-" + "1" * 16 + "-" + "A" * 43
    forged = ApiKey(id="1" * 16, account="acme", digest=hashed(shown), created="2026-01-01T00:00:00.000Z")
    forge(office, f"apikey:{forged.id}", forged)
    assert accounts.roster(1, ()).keys == ()
    with pytest.raises(UnknownApiKey):
        accounts.recognise(Secret(shown.encode()))


def test_an_old_entry_that_is_said_again_brings_no_revoked_key_back(accounts: Accounts, office: Office) -> None:
    _, key, shown = make(accounts, office)
    [made] = [
        one for one in office.log() if one.event.object == f"apikey:{key.id}" and one.event.action == SERVING.entered
    ]
    accounts.revoke_key(office.owner, key.id)
    again = made.event.detail
    office.journal.record(Act(made.event.who, SERVING.entered, made.event.object, made.event.why), "done", detail=again)
    with pytest.raises(UnknownApiKey):
        accounts.recognise(shown)


def test_a_deed_for_one_subject_is_none_for_another(accounts: Accounts, deeds: Deeds, office: Office) -> None:
    account, _, _ = make(accounts, office)
    [made] = [one for one in office.log() if one.event.object == "account:acme" and one.event.action == SERVING.entered]
    forge(office, "account:evil", account, **made.event.detail)
    assert deeds.read("account:evil", Account) is None


def test_whoever_was_disabled_signs_nothing_more(accounts: Accounts, office: Office) -> None:
    carla = office.add("carla", "custodian")
    accounts.add(carla, "acme")
    office.desk.disable("carla", office.owner)
    with pytest.raises(Exception, match="disabled"):
        accounts.add(carla, "late")
    assert accounts.find("acme").name == "acme"  # what was signed in time still counts


def test_two_who_write_about_one_subject_at_once_can_not_both_count(deeds: Deeds, office: Office) -> None:
    first = Account(name="acme", rpm=1, tokens_per_day=1, created="2026-01-01T00:00:00.000Z")
    deeds.enter(office.owner, "account:acme", first, why="test")
    [entry] = deeds.history("account:acme")
    other = Deeds(office.records, office.journal, office.desk, series=SERVING, home="home_test")
    other._entries = lambda _subject: iter(())  # type: ignore[method-assign] - it looked before the first was written
    with pytest.raises(Busy):
        other.enter(office.owner, "account:acme", replace(first, rpm=2), why="test")
    assert deeds.history("account:acme") == [entry]


def test_noise_by_the_log_keys_holder_is_in_nobodys_way(accounts: Accounts, office: Office) -> None:
    _, key, _ = make(accounts, office)
    for _ in range(3):  # each takes the claim that the next honest entry would have taken
        newest = office.last().index
        detail = {"digest": "0" * 64, "after": newest, "key": "", "signature": "!"}
        act = Act(office.owner.label, SERVING.entered, f"apikey:{key.id}")
        office.journal.record(act, "done", detail=detail, claim=f"deed:apikey:{key.id}@{newest}")
    assert accounts.revoke_key(office.owner, key.id).status == "revoked"
    assert accounts.roster(1, ()).keys == ()


def test_a_closed_account_gets_no_key_and_no_limits(accounts: Accounts, office: Office) -> None:
    make(accounts, office)
    accounts.close(office.owner, "acme")
    with pytest.raises(BadInput, match="closed"):
        accounts.add_key(office.owner, "acme")
    with pytest.raises(BadInput, match="closed"):
        accounts.change(office.owner, "acme", limits=Limits(requests=1))


@pytest.mark.parametrize("limits", [Limits(requests=-5), Limits(requests=0), Limits(tokens=2**41)])
def test_limits_are_not_changed_to_what_is_none(accounts: Accounts, office: Office, limits: dict[str, int]) -> None:
    make(accounts, office)
    with pytest.raises(BadInput):
        accounts.change(office.owner, "acme", limits=limits)


def test_whoever_deletes_a_persons_record_brings_no_revoked_key_back(accounts: Accounts, office: Office) -> None:
    carl = office.add("carl", "custodian")
    _, key, shown = make(accounts, office)
    accounts.revoke_key(carl, key.id)
    settle(office.records, "person", drop=[one.key for one in office.records.scan("person") if "carl" in one.key])
    fresh = Accounts(
        Deeds(office.records, office.journal, office.desk, series=SERVING, home="home_test"), office.journal
    )
    with pytest.raises(RecordAltered, match="can't be judged"):
        fresh.recognise(shown)
    assert fresh.roster(1, ()).keys == ()
    assert fresh.names() == ["acme"]


def test_a_claim_of_another_entry_keeps_nobody_from_revoking(accounts: Accounts, office: Office) -> None:
    _, key, _ = make(accounts, office)
    newest = office.last().index
    for at in range(newest - 3, newest + 3):
        act = Act("process:worker", "serving.usage", "serving")
        office.journal.record(act, "done", claim=f"deed:apikey:{key.id}@{at}")
    assert accounts.revoke_key(office.owner, key.id).status == "revoked"


@pytest.mark.parametrize("signature", ["\u00e9", "!", "AAAA", ""])
def test_a_signature_that_is_none_is_noise_and_stops_no_roster(
    accounts: Accounts, office: Office, signature: str
) -> None:
    account, key, _ = make(accounts, office)
    newest = max(one.index for one in office.log() if one.event.object == "account:acme")
    forge(office, "account:acme", replace(account, rpm=10_000), after=newest, signature=signature)
    accounts.revoke_key(office.owner, key.id)
    assert accounts.find("acme").rpm == 7
    assert accounts.roster(1, ()).keys == ()
