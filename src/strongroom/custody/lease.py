"""What a process needs besides the key to open a sealed folder that somebody else was granted: no home, no ledger."""

from __future__ import annotations

from strongroom.access.keys import PublicKeys
from strongroom.core.canonical import Record
from strongroom.core.ids import CheckpointName
from strongroom.custody.judge import Expected


class Lease(Record, frozen=True):
    """What the sealed folder `checkpoint` must prove to be. Nothing in it is secret."""

    checkpoint: str
    name: str
    tag: str
    version: int
    manifest: str  # SHA-256 of the signed manifest
    signer: str
    key: PublicKeys  # those that it was signed with

    def expected(self) -> Expected:
        """Return what to judge the folder by.

        The keys that others have had stay behind: another version in the folder's place is refused all the same, only
        with a less telling error.
        """
        return Expected(
            self.checkpoint, CheckpointName(self.name, self.tag), self.version, self.manifest, self.signer, self.key
        )


def lease(expected: Expected) -> Lease:
    """Return the lease that says what `expected` does."""
    return Lease(
        checkpoint=expected.checkpoint,
        name=expected.name.name,
        tag=expected.name.tag,
        version=expected.version,
        manifest=expected.manifest,
        signer=expected.signer,
        key=expected.key,
    )
