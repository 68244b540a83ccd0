"""How the public API is used, for the type checker: a change that breaks a caller's types breaks this file."""

from __future__ import annotations

from pathlib import Path

from strongroom.access.identity import Identity
from strongroom.core.ids import CheckpointName
from strongroom.core.secrets import Secret
from strongroom.custody.tensors import Array, SealedCheckpoint
from strongroom.custody.vault import Purpose
from strongroom.wiring.home import Home, open_home


def read_one_tensor(place: Path, passphrase: Secret) -> Array:
    """Open a home, authenticate, read one tensor of a sealed checkpoint."""
    home: Home = open_home(place)
    who: Identity = home.desk.authenticate("rosa", passphrase)
    with home.vault.open(who, CheckpointName.parse("chat:v1"), Purpose("a look", {})) as reader:
        sealed = SealedCheckpoint(reader)
        names: list[str] = sealed.keys()
        rows: Array = sealed.get_slice(names[0])[:8]
        whole: Array = sealed.get_tensor(names[0])
    return whole if rows.size else rows
