"""Writing records that others write too: where somebody came in between, look again and write again.

For writes that mean the same whatever stands there (store this, delete that). What depends on what was read names the
version itself and takes `Busy` for an answer.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from strongroom.core.errors import Busy
from strongroom.ports.records import Change, Records

_ATTEMPTS = 16


def settle(records: Records, kind: str, *, put: Mapping[str, bytes] | None = None, drop: Iterable[str] = ()) -> None:
    """Store the documents `put` by key and delete the keys `drop`, all at once; what is gone already is fine.

    Raises:
        Busy: others kept writing the same records.
        StorageError: the store can't be written.

    """
    wanted: dict[str, bytes | None] = dict.fromkeys(drop) | dict(put or {})
    for attempt in range(_ATTEMPTS):
        changes = [_change(records, kind, key=key, document=document) for key, document in wanted.items()]
        try:
            records.apply([change for change in changes if change.document is not None or change.expect])
        except Busy:
            if attempt == _ATTEMPTS - 1:
                raise
            continue
        return


def _change(records: Records, kind: str, *, key: str, document: bytes | None) -> Change:
    stored = records.get(kind, key)
    return Change(kind, key, 0 if stored is None else stored.version, document)
