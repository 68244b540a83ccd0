"""Every parser of foreign bytes in access and wiring: typed errors, whatever comes."""

from __future__ import annotations

import contextlib
import io
import tarfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from strongroom.access.keys import Keyring, PublicKeys, new_seed
from strongroom.access.lockbox import Lockbox, unlock
from strongroom.access.people import Person
from strongroom.access.policy import Policy
from strongroom.access.recovery import recovery_keyring
from strongroom.access.requests import Request
from strongroom.cli.frame import plain, read_passphrase
from strongroom.core.canonical import decode
from strongroom.core.errors import (
    BadInput,
    PassphraseUnreadable,
    PolicyInvalid,
    SignatureInvalid,
    StrongroomError,
    WrongKey,
    WrongRecoveryKey,
)
from strongroom.core.secrets import Secret
from strongroom.custody.formats import Envelope
from strongroom.custody.registry import Registered
from strongroom.wiring.backup import restore_home
from strongroom.wiring.home import Mark

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=12,
)


@pytest.mark.parametrize("kind", [Person, Request, Lockbox, Registered, Envelope, PublicKeys, Mark])
@given(data=st.binary(max_size=300))
def test_records(kind: type, data: bytes) -> None:
    with contextlib.suppress(BadInput):
        assert isinstance(decode(data, kind, where="t"), kind)


@pytest.mark.parametrize("kind", [Person, Request, Lockbox, Registered, Envelope, PublicKeys, Mark])
@given(value=JSON)
def test_records_of_the_wrong_shape(kind: type, value: object) -> None:
    import json

    with contextlib.suppress(BadInput):
        assert isinstance(decode(json.dumps(value).encode(), kind, where="t"), kind)


@given(st.binary(max_size=120))
def test_recovery_keys(data: bytes) -> None:
    with pytest.raises(WrongRecoveryKey):
        recovery_keyring(Secret(data))


@given(st.text(max_size=200))
def test_policies(text: str) -> None:
    with contextlib.suppress(PolicyInvalid):
        assert Policy(text).digest


@given(sign=st.binary(max_size=40), receive=st.binary(max_size=1300), signature=st.binary(max_size=80))
def test_keys_of_any_length(sign: bytes, receive: bytes, signature: bytes) -> None:
    keys = PublicKeys(sign=sign, receive=receive)
    with pytest.raises(SignatureInvalid):
        keys.verify(signature, b"message", where="t")
    with pytest.raises(WrongKey):
        keys.wrap(Secret(b"k" * 32), info=b"")


@given(st.binary(max_size=1400))
def test_envelopes_of_any_bytes(data: bytes) -> None:
    with pytest.raises(WrongKey):
        RING.unwrap(data, info=b"", where="t")


RING = Keyring("t", new_seed())


@given(
    memory=st.integers(-1, 2**40),
    passes=st.integers(-1, 2**20),
    lanes=st.integers(-1, 2**20),
    sealed=st.binary(max_size=50),
)
@settings(max_examples=50)
def test_lockboxes_with_any_parameters(memory: int, passes: int, lanes: int, sealed: bytes) -> None:
    from strongroom.access.lockbox import Parameters

    if 8 * lanes <= memory <= 1_048_576 and 1 <= passes <= 16 and 1 <= lanes <= 16:
        memory = -memory  # legal, and slow: not what is asked here
    asked = Parameters(
        format="strongroom/lockbox@1", name="t", salt=b"s" * 16, memory_kib=memory, passes=passes, lanes=lanes
    )
    with pytest.raises(StrongroomError):
        unlock(Lockbox(parameters=asked, nonce=b"n" * 12, sealed=sealed), Secret(b"p"), name="t")


@given(st.text())
def test_shown_text_has_no_control_characters(text: str) -> None:
    assert plain(text).isprintable() or not plain(text)


@given(data=st.binary(max_size=100))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_passphrase_files(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "p").write_bytes(data)
    with contextlib.suppress(PassphraseUnreadable):
        assert read_passphrase(str(tmp_path / "p"), "t").reveal() in data


@given(data=st.binary(max_size=2000))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
def test_backups_of_any_bytes(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "b.tar").write_bytes(data)
    with pytest.raises(StrongroomError):
        restore_home(tmp_path / "b.tar", tmp_path / "home", progress=lambda _done, _total: None)
    assert not (tmp_path / "home").exists()


@pytest.mark.parametrize("name", ["/etc/x", "../x", "a/../../x", "home.json/x"])
@pytest.mark.parametrize("kind", [tarfile.REGTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.DIRTYPE])
def test_a_tar_that_would_climb_out(tmp_path: Path, name: str, kind: bytes) -> None:
    with tarfile.open(tmp_path / "b.tar", "w") as archive:
        member = tarfile.TarInfo(name)
        member.type, member.linkname = kind, "/etc/passwd"
        archive.addfile(member, io.BytesIO(b""))
    with pytest.raises(StrongroomError):
        restore_home(tmp_path / "b.tar", tmp_path / "deep" / "home", progress=lambda _done, _total: None)
    assert not list(tmp_path.rglob("x"))
