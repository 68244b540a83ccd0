"""What a recipient can open, and all that is refused: other keys, other shares, other folders, altered bytes."""

from __future__ import annotations

import base64
import datetime as dt
import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from strongroom.access.keys import Keyring, new_seed
from strongroom.core.canonical import encode
from strongroom.core.copy_errors import CopyExpired, Embargoed
from strongroom.core.errors import (
    AlreadyExists,
    BadInput,
    ManifestAltered,
    ManifestMissing,
    NotSealed,
    PayloadExtended,
    PayloadMissing,
    PayloadTruncated,
    SegmentAltered,
    SignatureInvalid,
    StrongroomError,
    TamperError,
    WrongCheckpoint,
    WrongKey,
)
from strongroom.core.secrets import Secret
from strongroom.custody.copy_formats import COPY_TYPE, Copy, CopyIssuer, CopySignature, IssuedCopy, SignedShare, notes
from strongroom.custody.formats import pae
from strongroom.custody.keys import wrap_key
from strongroom.custody.plain import write_plain
from strongroom.custody.recipient_keys import make_keys, public_file, public_text, read_public, read_seed
from strongroom.custody.release import release
from strongroom.custody.tensors import SealedCheckpoint
from tests.access import conftest
from tests.access.office import Office
from tests.clock import StepClock
from tests.custody.issuing import NAME, Desk, received, set_up

office = conftest.office


@pytest.fixture
def desk(office: Office, tmp_path: Path) -> Desk:
    return set_up(office, tmp_path)


@pytest.fixture
def issued(desk: Desk) -> IssuedCopy:
    return desk.issue()


@pytest.fixture
def copy(issued: IssuedCopy) -> Path:
    return Path(issued.path)


# ── opening ──────────────────────────────────────────────────────────────────────────────────────────────────────────
def test_it_opens_offline_under_any_name(desk: Desk, copy: Path, clock: StepClock, tmp_path: Path) -> None:
    elsewhere = tmp_path / "renamed"
    shutil.copytree(copy, elsewhere)
    shutil.rmtree(desk.root / "home")
    found = received(elsewhere)
    with SealedCheckpoint(found.open(desk.seed(), None, now=clock.now())) as ours:
        assert len(ours.keys()) == 6
        assert ours.read_file("config.json") == (desk.root / "model" / "config.json").read_bytes()
    assert found.issuer == desk.carla.keyring.public.fingerprint()
    assert found.copy.title == NAME
    assert found.copy.recipient.name == "lab"


def test_an_export_carries_the_mark(desk: Desk, issued: IssuedCopy, clock: StepClock) -> None:
    reader = desk.received(issued).open(desk.seed(), None, now=clock.now())
    target = desk.root / "plain"
    write_plain(reader, target, single=False)
    ours = (target / "model.safetensors").read_bytes()
    theirs = (desk.root / "model" / "model.safetensors").read_bytes()
    assert len(ours) == len(theirs)
    assert ours != theirs


def test_another_key(desk: Desk, issued: IssuedCopy, clock: StepClock) -> None:
    desk.add_recipient("rival")
    for seed in (desk.seed("rival"), new_seed()):
        with pytest.raises(WrongKey, match="lab"):
            desk.received(issued).open(seed, None, now=clock.now())
    with pytest.raises(BadInput, match="no embargo"):
        desk.received(issued).open(desk.seed(), b"{}", now=clock.now())


def test_the_issuer_can_be_pinned(desk: Desk, copy: Path) -> None:
    fingerprint = desk.carla.keyring.public.fingerprint()
    spaced = ":".join(fingerprint[at : at + 4] for at in range(0, 64, 4)).upper()
    for good in (fingerprint, spaced):
        assert received(copy, issuer=good).issuer == fingerprint
    with pytest.raises(SignatureInvalid, match="pinned"):
        received(copy, issuer=desk.carl.keyring.public.fingerprint())
    for wrong in (fingerprint[:16], "z" * 64, ""):
        with pytest.raises(BadInput, match="64"):
            received(copy, issuer=wrong)


# ── altered, swapped, torn ───────────────────────────────────────────────────────────────────────────────────────────
def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def _flip(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


DAMAGE: dict[str, tuple[Callable[[Path], object], type[TamperError]]] = {
    "no copy.json": (lambda copy: (copy / "copy.json").unlink(), ManifestMissing),
    "no copy.sig": (lambda copy: (copy / "copy.sig").unlink(), SignatureInvalid),
    "torn copy.json": (lambda copy: _cut(copy / "copy.json"), ManifestAltered),
    "torn copy.sig": (lambda copy: _cut(copy / "copy.sig"), SignatureInvalid),
    "large copy.json": (lambda copy: (copy / "copy.json").write_bytes(b" " * 100_000), ManifestAltered),
    "no manifest": (lambda copy: (copy / "manifest.json").unlink(), ManifestMissing),
    "torn manifest": (lambda copy: _cut(copy / "manifest.json"), ManifestAltered),
    "no signature": (lambda copy: (copy / "manifest.sig").unlink(), SignatureInvalid),
    "no payload": (lambda copy: (copy / "000001.sealed").unlink(), PayloadMissing),
    "another file": (lambda copy: (copy / "notes.txt").write_text("x"), PayloadExtended),
    "torn payload": (lambda copy: _cut(copy / "000002.sealed"), PayloadTruncated),
    "a flipped bit": (lambda copy: _flip(copy / "000002.sealed", 3000), SegmentAltered),
    "a link": (lambda copy: _link(copy / "copy.json"), NotSealed),
}


def _link(path: Path) -> None:
    path.rename(path.with_suffix(".real"))
    path.symlink_to(path.with_suffix(".real"))


@pytest.mark.parametrize("damage", DAMAGE)
def test_damage_is_told_apart(copy: Path, damage: str) -> None:
    hurt, kind = DAMAGE[damage]
    hurt(copy)
    with pytest.raises(kind):
        received(copy).verify()


def test_the_copies_of_two_recipients_swapped(desk: Desk, issued: IssuedCopy, clock: StepClock) -> None:
    desk.add_recipient("rival")
    other = desk.issue(desk.order("two", recipient="rival"))
    ours, theirs = Path(issued.path), Path(other.path)
    for name in ("copy.json", "copy.sig"):
        shutil.copy(theirs / name, ours / name)
    with pytest.raises(WrongCheckpoint):
        received(ours).verify()
    with pytest.raises(WrongKey):
        received(ours).open(desk.seed(), None, now=clock.now())
    for name in ("manifest.json", "manifest.sig"):
        shutil.copy(theirs / name, ours / name)
    with pytest.raises(TamperError):
        received(ours).verify()


def _edited(copy: Path, keyring: Keyring, /, **changed: object) -> None:
    """Rewrite copy.json as somebody with `keyring` would, signed."""
    document = json.loads((copy / "copy.json").read_bytes()) | changed
    raw = encode(document)
    (copy / "copy.json").write_bytes(raw)
    signature = CopySignature(signer=document["issuer"]["name"], signature=keyring.sign(pae(COPY_TYPE, raw)))
    (copy / "copy.sig").write_bytes(encode(signature))


def test_a_stranger_who_edits_and_signs(desk: Desk, copy: Path) -> None:
    stranger = Keyring("carla", new_seed())
    _edited(copy, stranger, licence="free")
    with pytest.raises(SignatureInvalid):
        received(copy)
    _edited(copy, stranger, issuer=msgspec.to_builtins(CopyIssuer(name="carla", keys=stranger.public)))
    with pytest.raises(SignatureInvalid):  # the manifest is still carla's
        received(copy).verify()
    with pytest.raises(SignatureInvalid, match="pinned"):
        received(copy, issuer=desk.carla.keyring.public.fingerprint())


@pytest.mark.parametrize(
    "changed",
    [{"embargo": "2031-01-01"}, {"share": "ab" * 32}, {"expires": "2031-02-30"}, {"more": 1}, {"format": "x"},
     {"licence": "a b"}, {"version": 0}, {"manifest": "zz"}, {"copy": "../up"}],
    ids=str,
)  # fmt: skip
def test_a_document_that_its_issuer_signed_and_that_makes_no_sense(
    desk: Desk, copy: Path, changed: dict[str, object]
) -> None:
    _edited(copy, desk.carla.keyring, **changed)
    with pytest.raises(ManifestAltered):
        received(copy)


def test_an_envelope_for_another_copy_does_not_open(
    desk: Desk, issued: IssuedCopy, copy: Path, clock: StepClock
) -> None:
    keys = desk.premises.recipients.find("lab").keys
    for changed in ({"checkpoint": "copy_other"}, {"version": 7}, {"person": "rival"}):
        parts = {"checkpoint": issued.copy, "version": 1, "person": "lab", **changed}
        envelope = wrap_key(Secret(b"k" * 32), keys, **parts)  # type: ignore[arg-type]
        _edited(copy, desk.carla.keyring, envelope=msgspec.to_builtins(envelope))
        with pytest.raises(WrongKey):
            received(copy).open(desk.seed(), None, now=clock.now())
    envelope = wrap_key(Secret(b"k" * 32), keys, person="lab", checkpoint=issued.copy, version=1)
    _edited(copy, desk.carla.keyring, envelope=msgspec.to_builtins(envelope))
    with pytest.raises(WrongKey):  # an envelope of another key
        received(copy).open(desk.seed(), None, now=clock.now())


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_no_bytes_of_copy_json_do_more_than_be_refused(copy: Path, data: st.DataObject) -> None:
    place = copy / "copy.json"
    if not (whole := copy.parent / "whole").exists():
        shutil.copy(place, whole)
    raw = bytearray(whole.read_bytes())
    edits = st.tuples(st.sampled_from(["set", "cut", "insert"]), st.integers(0, len(raw) - 1), st.binary(max_size=9))
    for kind, at, piece in data.draw(st.lists(edits, min_size=1, max_size=4)):
        end = {"set": at + len(piece), "cut": at + 1 + len(piece), "insert": at}[kind]
        raw[at:end] = b"" if kind == "cut" else piece
    place.write_bytes(raw)
    if bytes(raw) == whole.read_bytes():
        received(copy)
        return
    with pytest.raises((ManifestAltered, SignatureInvalid)):
        received(copy)


# ── embargo and term ─────────────────────────────────────────────────────────────────────────────────────────────────
def _day(clock: StepClock, days: int) -> str:
    return (clock.now() + dt.timedelta(days=days)).strftime("%Y-%m-%d")


def test_a_copy_under_an_embargo_opens_with_its_share_alone(desk: Desk, clock: StepClock) -> None:
    day, later = _day(clock, 2), _day(clock, 3)
    one, two = desk.issue(desk.order(embargo=day)), desk.issue(desk.order("two", embargo=day))
    other = desk.issue(desk.order("other", embargo=later))
    for days in (0, 5):  # the date opens nothing by itself
        with pytest.raises(Embargoed):
            desk.received(one).open(desk.seed(), None, now=clock.now() + dt.timedelta(days=days))
    assert desk.received(one).data_key(desk.seed(), None) is None
    clock.step(days=4)
    shares = {}
    for embargo in (day, later):
        release(desk.premises, desk.carl, NAME, embargo=embargo, out=desk.root / embargo)
        shares[embargo] = (desk.root / embargo).read_bytes()
    for copy in (one, two):
        with SealedCheckpoint(desk.received(copy).open(desk.seed(), shares[day], now=clock.now())) as ours:
            assert len(ours.keys()) == 6
    with SealedCheckpoint(desk.received(other).open(desk.seed(), shares[later], now=clock.now())) as ours:
        assert len(ours.keys()) == 6
    with pytest.raises(WrongKey, match=f"under {later}, not for chat:v1 version 1 under {day}"):
        desk.received(one).open(desk.seed(), shares[later], now=clock.now())


def test_a_share_that_was_altered(desk: Desk, clock: StepClock) -> None:
    day = _day(clock, 2)
    issued = desk.issue(desk.order(embargo=day))
    clock.step(days=3)
    release(desk.premises, desk.carl, NAME, embargo=day, out=desk.root / "share")
    found, share = desk.received(issued), (desk.root / "share").read_bytes()
    signed = msgspec.json.decode(share, type=SignedShare)
    forged = [msgspec.structs.replace(one, share=b"x" * 32) for one in signed.released.shares]
    unsigned = msgspec.structs.replace(signed, released=msgspec.structs.replace(signed.released, shares=forged))
    stranger = Keyring("carl", new_seed())
    released = msgspec.structs.replace(
        unsigned.released, issuer=msgspec.structs.replace(signed.released.issuer, keys=stranger.public)
    )
    kind = "application/vnd.strongroom.release-share.v1+json"
    resigned = SignedShare(released=released, signature=stranger.sign(pae(kind, encode(released))))
    for wrong, error in (
        (encode(unsigned), SignatureInvalid), (encode(resigned), WrongKey), (share[:-9], BadInput), (b"", BadInput),
    ):  # fmt: skip
        with pytest.raises(error):
            found.open(desk.seed(), wrong, now=clock.now())


def test_a_share_of_another_version(desk: Desk, clock: StepClock) -> None:
    day = _day(clock, 2)
    first = desk.issue(desk.order(embargo=day))
    desk.vault.seal(desk.carla, desk.root / "model", NAME)
    clock.step(days=3)
    release(desk.premises, desk.carl, NAME, embargo=day, out=desk.root / "share")
    share = (desk.root / "share").read_bytes()
    with SealedCheckpoint(desk.received(first).open(desk.seed(), share, now=clock.now())) as ours:
        assert ours.keys()
    later = _day(clock, 2)
    second = desk.issue(desk.order("two", embargo=later))
    with pytest.raises(WrongKey):
        desk.received(second).open(desk.seed(), share, now=clock.now())


def test_a_term_that_is_over(desk: Desk, clock: StepClock) -> None:
    issued = desk.issue(desk.order(expires=_day(clock, 2)))
    found = desk.received(issued)
    with SealedCheckpoint(found.open(desk.seed(), None, now=clock.now())) as ours:
        assert ours.keys()
    clock.step(days=3)
    with pytest.raises(CopyExpired):
        found.open(desk.seed(), None, now=clock.now())
    assert found.verify().segments
    assert any("honest client" in one for one in notes(found.copy))


# ── key files ────────────────────────────────────────────────────────────────────────────────────────────────────────
def test_key_files(tmp_path: Path) -> None:
    place = tmp_path / "lab.key"
    keys = make_keys(place)
    assert place.stat().st_mode & 0o777 == 0o600
    assert read_public(public_file(place)) == keys
    assert Keyring("lab", read_seed(place)).public == keys
    assert public_file(place).read_text() == public_text(keys) + "\n"
    secret = place.read_text()
    for there in (place, public_file(place)):
        kept = there.read_bytes()
        with pytest.raises(AlreadyExists):
            make_keys(place)
        assert there.read_bytes() == kept
        there.unlink()
    place.write_text(secret)
    with pytest.raises(AlreadyExists):
        make_keys(place)
    assert not public_file(place).exists()


def test_the_secret_file_in_the_public_ones_place(tmp_path: Path) -> None:
    place = tmp_path / "lab.key"
    make_keys(place)
    with pytest.raises(BadInput, match="this is a secret key") as caught:
        read_public(place)
    raw = read_seed(place).reveal()
    said = f"{caught.value} {caught.value.advice} {caught.value.message}"
    assert base64.b64encode(raw).decode()[:20] not in said
    with pytest.raises(BadInput, match="public key"):
        read_seed(public_file(place))


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o602, 0o644])
def test_a_secret_key_that_others_can_read(tmp_path: Path, mode: int) -> None:
    place = tmp_path / "lab.key"
    make_keys(place)
    place.chmod(mode)
    with pytest.raises(BadInput, match=f"{mode:04o}") as refused:
        read_seed(place)
    assert f"chmod 600 {place}" in refused.value.advice
    public_file(place).chmod(mode)
    assert read_public(public_file(place))
    place.chmod(0o400)
    assert read_seed(place)


@pytest.mark.parametrize("half", ["public", "secret"])
def test_key_files_that_are_none(tmp_path: Path, half: str) -> None:
    place = tmp_path / "lab.key"
    make_keys(place)
    file, read = (public_file(place), read_public) if half == "public" else (place, read_seed)
    text = file.read_text()
    line = text.splitlines()[-1]
    prefix, _, body = line.rpartition(":")
    spoiled = body[:30] + ("A" if body[30] != "A" else "B") + body[31:]
    for wrong in (
        "", "\n", line[:-4], line + "AAAA", f"{prefix}:{spoiled}", f"{line}\n{line}", f"{prefix}:", "x" * 9000, "é",
        f"{prefix}:not base 64", prefix,
    ):  # fmt: skip
        file.write_text(wrong)
        with pytest.raises(BadInput) as caught:
            read(file)
        assert body[:20] not in f"{caught.value} {caught.value.advice}"
    file.unlink()
    with pytest.raises(BadInput, match="can't be read"):
        read(file)


def test_a_public_key_that_nothing_can_be_encrypted_to(tmp_path: Path) -> None:
    raw = b"\xff" * 1248
    check = hashlib.sha256(b"strongroom-recipient-1:" + raw).digest()[:8]
    file = tmp_path / "bad.pub"
    file.write_text("strongroom-recipient-1:" + base64.b64encode(raw + check).decode())
    with pytest.raises(BadInput, match="nothing can be encrypted"):
        read_public(file)


def test_a_disk_without_room_leaves_no_half_of_a_pair(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []

    def full(*_: object) -> None:
        calls.append(1)
        if len(calls) == 2:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr("strongroom.custody.landing.os.fsync", full)
    with pytest.raises(StrongroomError, match="No space"):
        make_keys(tmp_path / "lab.key")
    assert list(tmp_path.iterdir()) == []


def test_copy_json_shows_no_secret(desk: Desk, copy: Path) -> None:
    document = json.loads((copy / "copy.json").read_bytes())
    assert set(document) == set(Copy.__struct_fields__)
    assert "log10_p" not in document["mark"]
    raw = (copy / "copy.json").read_bytes()
    assert desk.seed().reveal() not in raw
