"""Signed notes against the example of the specification, and what a strict reader refuses."""

from __future__ import annotations

import pytest

from strongroom.core.errors import BadInput, SignatureInvalid
from strongroom.core.secrets import Secret
from strongroom.ledger import checkpoints
from strongroom.ledger.notes import LOG_KEY, WITNESS_KEY, Note, Signer, Verifier

# https://c2sp.org/signed-note, section "Example"
VKEY = "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k"
NOTE = (
    "This is an example message.\n\n— example.com/foo "
    "Uw2QOkn8srV1yJGh2VYRlL1Tnagv1YEq6TfXppzi2ONncAlTgK7Ztg1ERYNZXsYjOBH3mFXmRKuwHjG1Yu72IneyaQM=\n"
).encode()


def test_the_specifications_example_verifies() -> None:
    verifier = Verifier.parse(VKEY)
    note = Note.parse(NOTE, where="note")
    verifier.check(note, where="note")
    assert verifier.vkey == VKEY
    assert note.text == "This is an example message.\n"
    assert note.encode() == NOTE


def test_a_changed_text_does_not_verify() -> None:
    with pytest.raises(SignatureInvalid):
        Verifier.parse(VKEY).check(Note.parse(NOTE.replace(b"an", b"no", 1), where="note"), where="note")


def test_unknown_keys_are_ignored_and_a_bad_known_signature_condemns() -> None:
    mine, other = Signer("a.example", LOG_KEY, Secret(b"1" * 32)), Signer("b.example", LOG_KEY, Secret(b"2" * 32))
    text = "text\n"
    good = Note(text, (other.sign("else\n"), mine.sign(text)))
    mine.verifier.check(good, where="note")
    bad = Note(text, (mine.sign(text), mine.sign("else\n")))
    with pytest.raises(SignatureInvalid):
        mine.verifier.check(bad, where="note")
    with pytest.raises(SignatureInvalid):
        mine.verifier.check(Note(text, (other.sign(text),)), where="note")


def test_a_cosignature_binds_its_time() -> None:
    witness = Signer("w.example/1", WITNESS_KEY, Secret(b"3" * 32))
    text = "log.example\n0\n47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=\n"
    note = Note.parse(Note(text, (witness.cosign(text, 1679315147),)).encode(), where="note")
    witness.verifier.check(note, where="note")
    signature = note.signatures[0]
    assert len(signature.value) == 72
    assert int.from_bytes(signature.value[:8], "big") == 1679315147
    later = Note(text, (type(signature)(signature.name, signature.key_id, bytes(8) + signature.value[8:]),))
    with pytest.raises(SignatureInvalid):
        witness.verifier.check(later, where="note")


def test_a_private_key_survives_its_text() -> None:
    signer = Signer("a.example", LOG_KEY, Secret(b"1" * 32))
    assert Signer.parse(signer.encode().reveal().decode()).verifier == signer.verifier


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"text\n",
        b"text\n\n",
        b"text\n\n- a AAAAAAAA\n",
        "text\n\n— a\n".encode(),
        "text\n\n— a AAAA\n".encode(),
        "text\n\n— a AAAAAAB=\n".encode(),  # base64 with bits left over
        "text\n\n— a  AAAAAAAA\n".encode(),
        "text\n\n— a+b AAAAAAAA\n".encode(),
        "text\n\n— a AAAAAAAA".encode(),
        "te\txt\n\n— a AAAAAAAA\n".encode(),
        b"\xff\n\n" + "— a AAAAAAAA\n".encode(),
        b"text\n\n" + "— a AAAAAAAA\n".encode() * 65,
        b"x" * (1 << 20) + "\n\n— a AAAAAAAA\n".encode(),
    ],
)
def test_malformed_notes_are_refused(data: bytes) -> None:
    with pytest.raises(BadInput):
        Note.parse(data, where="note")


@pytest.mark.parametrize(
    "vkey",
    [
        "",
        "a+b",
        VKEY.replace("530d903a", "530d903b"),
        VKEY.replace("530d903a", "530D903A"),
        VKEY.replace("+Aeky", "+AOky"),
        VKEY[:-4],
        "a b+00000000+AA==",
    ],
)
def test_malformed_vkeys_are_refused(vkey: str) -> None:
    with pytest.raises(BadInput):
        Verifier.parse(vkey)


def test_a_signing_key_must_be_32_bytes_of_a_known_type() -> None:
    for kind, seed in ((LOG_KEY, b"short"), (2, b"1" * 32)):
        with pytest.raises(BadInput):
            Signer("a.example", kind, Secret(seed))


@pytest.mark.parametrize("text", ["PRIVATE+KEY+" + VKEY, "x", "PRIVATE+KEY+a", "PRIVATE+KEY+a+00000000+AQ==", VKEY])
def test_malformed_private_keys_are_refused(text: str) -> None:
    with pytest.raises(BadInput):
        Signer.parse(text)


@pytest.mark.parametrize(
    "text",
    [
        "o\n1\n",
        "o\n01\n47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=\n",
        "o\n-1\n47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=\n",
        "o\n1\nAAAA\n",
        "\n1\n47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=\n",
        "o\n1\n47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=\n\nx\n",
    ],
)
def test_malformed_log_checkpoints_are_refused(text: str) -> None:
    signer = Signer("o", LOG_KEY, Secret(b"1" * 32))
    data = Note(text, (signer.sign(text),)).encode()
    with pytest.raises(BadInput):
        checkpoints.parse(data, signer.verifier, where="log checkpoint")


def test_a_log_checkpoint_of_another_log_is_refused() -> None:
    signer = Signer("o", LOG_KEY, Secret(b"1" * 32))
    text = "other\n0\n47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=\n"
    with pytest.raises(BadInput):
        checkpoints.parse(Note(text, (signer.sign(text),)).encode(), signer.verifier, where="log checkpoint")
