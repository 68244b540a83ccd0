"""Is this the checkpoint that was asked for? Pure judgements over bytes already read (format page, section 8)."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from blake3 import blake3

from strongroom.access.keys import PublicKeys
from strongroom.core.canonical import decode
from strongroom.core.errors import (
    BadInput,
    HeaderAltered,
    ManifestAltered,
    NotSealed,
    PayloadExtended,
    PayloadMissing,
    PayloadTruncated,
    RolledBack,
    SignatureInvalid,
    WrongCheckpoint,
)
from strongroom.core.ids import CheckpointName
from strongroom.custody.floe import HEADER_BYTES, Layout, parameters
from strongroom.custody.formats import (
    HASH_BYTES,
    MANIFEST,
    MANIFEST_TYPE,
    SIGNATURE,
    Manifest,
    SealedFile,
    Signature,
    pae,
    read_manifest,
)

PARAMETER_BYTES = 10
_DAMAGED = 2  # up to so many differing parameter bytes are damage; a file of another kind differs in more


@dataclass(frozen=True, slots=True)
class Expected:
    """What the ledger says of a checkpoint: the caller's knowledge, never read from the folder itself.

    `keys` finds all keys that a signer has had, those who left included: with it an older version that somebody else,
    or the same person with earlier keys, signed is named for what it is. It never makes anything pass.
    """

    checkpoint: str
    name: CheckpointName
    version: int
    manifest: str
    signer: str
    key: PublicKeys
    keys: Callable[[str], Sequence[PublicKeys]] | None = None
    beside: tuple[str, ...] = ()  # files that the folder may hold beside the sealed ones

    def keys_of(self, signer: str) -> list[PublicKeys]:
        """Return the keys that `signer` is known to have or have had."""
        own = [self.key] if signer == self.signer else []
        return [*own, *(self.keys(signer) if self.keys else ())]

    @property
    def what(self) -> str:
        """Return the checkpoint in words."""
        return f"{self.name} version {self.version} ({self.checkpoint})"


def judge_manifest(data: bytes, signature: bytes | None, expected: Expected) -> Manifest:
    """Return the manifest if its bytes are the recorded ones and the signer signed them.

    Raises:
        ManifestAltered: it is not the one that the ledger recorded.
        SignatureInvalid: it is, but the signature is not the signer's; or somebody else signed another.
        RolledBack: an authentic manifest of another version stands there.
        WrongCheckpoint: an authentic manifest of another checkpoint stands there.

    """
    if hashlib.sha256(data).hexdigest() != expected.manifest:
        raise _say_what_stands_there(data, signature, expected)
    where = f"{expected.checkpoint}/{MANIFEST}"
    try:
        manifest = read_manifest(data, where=where)
    except BadInput as error:
        raise ManifestAltered(error.message, where=where) from None
    if _identity(manifest) != (expected.checkpoint, expected.name, expected.version):
        raise ManifestAltered(f"it does not name {expected.what}", where=where)
    _judge_signature(data, signature, expected)
    _judge_sizes(manifest, where=where)
    return manifest


def _identity(manifest: Manifest) -> tuple[str, CheckpointName, int]:
    return manifest.checkpoint, CheckpointName(manifest.name, manifest.tag), manifest.version


def _judge_signature(data: bytes, signature: bytes | None, expected: Expected) -> None:
    where = f"{expected.checkpoint}/{SIGNATURE}"
    if signature is None:
        raise SignatureInvalid("the signature is missing", where=where)
    try:
        document = decode(signature, Signature, where=where)
    except BadInput as error:
        raise SignatureInvalid(error.message, where=where) from None
    if document.signer != expected.signer:
        raise SignatureInvalid(f"signed by {document.signer}, not by {expected.signer}", where=where)
    expected.key.verify(document.signature, pae(MANIFEST_TYPE, data), where=where)


def _say_what_stands_there(
    data: bytes, signature: bytes | None, expected: Expected
) -> ManifestAltered | SignatureInvalid | RolledBack | WrongCheckpoint:
    """Name what stands in place of the recorded manifest: damage, a forgery, or an authentic other one."""
    where = f"{expected.checkpoint}/{MANIFEST}"
    altered = ManifestAltered(f"it is not the one recorded for {expected.what}", where=where)
    try:
        manifest = read_manifest(data, where=where)
        document = decode(signature or b"", Signature, where=where)
    except BadInput:
        return altered
    refusal = altered
    if document.signer != expected.signer:
        words = f"another manifest, signed by {document.signer}, not by {expected.signer}"
        refusal = SignatureInvalid(words, where=f"{expected.checkpoint}/{SIGNATURE}")
    if not _signed_by_one_of(expected.keys_of(document.signer), document.signature, data):
        return refusal
    checkpoint, name, version = _identity(manifest)
    there = f"{name} version {version} ({checkpoint}), signed by {document.signer}, stands in place of {expected.what}"
    if name != expected.name or (version == expected.version and checkpoint != expected.checkpoint):
        return WrongCheckpoint(there, where=where)
    return refusal if version == expected.version else RolledBack(there, where=where)


def _signed_by_one_of(keys: Sequence[PublicKeys], signature: bytes, data: bytes) -> bool:
    """Whether one of `keys` signed the manifest `data`."""
    for key in keys:
        try:
            key.verify(signature, pae(MANIFEST_TYPE, data), where=MANIFEST)
        except SignatureInvalid:
            continue
        return True
    return False


def _judge_sizes(manifest: Manifest, *, where: str) -> None:
    """Insist that every size is one that a sealed file has, with a hash for each of its segments."""
    layout = Layout(manifest.segment)
    for file in manifest.files:
        try:
            count = layout.count(layout.plain(file.size, where=where))
        except BadInput as error:
            raise ManifestAltered(f"{file.name}: {error.message}", where=where) from None
        if len(file.segments) != HASH_BYTES * count:
            raise ManifestAltered(
                f"{file.name}: {len(file.segments) // HASH_BYTES} hashes, {count} segments", where=where
            )


def judge_names(names: Sequence[str], manifest: Manifest, *, beside: Sequence[str] = ()) -> None:
    """Return if the folder's `names` are the manifest's, no less and, but for those `beside` them, no more.

    Raises:
        PayloadMissing: a sealed file is not there.
        PayloadExtended: something is there that the manifest does not name.

    """
    wanted = {file.name for file in manifest.files}
    for name in sorted(wanted.difference(names)):
        raise PayloadMissing("the sealed file is not there", where=f"{manifest.checkpoint}/{name}")
    for name in sorted(set(names).difference(wanted, {MANIFEST, SIGNATURE}, beside)):
        raise PayloadExtended("the manifest names no such file", where=f"{manifest.checkpoint}/{name[:200]}")


def judge_start(start: bytes, size: int, *, file: SealedFile, manifest: Manifest) -> None:
    """Return if a sealed file of `size` bytes that starts with `start` (74 bytes, fewer at its end) can be `file`.

    Raises:
        NotSealed: it is a file of another kind.
        PayloadTruncated: it is too short.
        PayloadExtended: it is too long.
        HeaderAltered: its header is not the sealed one.

    """
    where = f"{manifest.checkpoint}/{file.name}"
    if len(start) < PARAMETER_BYTES:
        raise PayloadTruncated(f"{size} bytes of {file.size}", where=where)
    wrong = sum(a != b for a, b in zip(start, parameters(manifest.segment), strict=False))
    if wrong > _DAMAGED:
        raise NotSealed("the file is not sealed", where=where)
    if size < file.size:
        raise PayloadTruncated(f"{size} bytes of {file.size}", where=where)
    if size > file.size:
        raise PayloadExtended(f"{size} bytes instead of {file.size}", where=where)
    if blake3(start[:HEADER_BYTES]).hexdigest() != file.header or wrong:
        raise HeaderAltered("bytes 0 to 73 are not the sealed header", where=where)


def whose_segment(found: bytes, manifest: Manifest) -> str:
    """Return where in the manifest the hash `found` belongs, in words; empty if nowhere."""
    for file in manifest.files:
        at = file.segments.find(found)
        if at >= 0 and not at % HASH_BYTES:
            return f"; these are the bytes of {file.name}, segment {at // HASH_BYTES}"
    return ""
