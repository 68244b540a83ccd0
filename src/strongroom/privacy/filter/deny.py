"""Documents that must go, whatever is in them: named, or given as texts whose near copies go too."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from strongroom.core.errors import BadInput, InputTooLarge
from strongroom.kernels.minhash import signatures
from strongroom.privacy.corpus.documents import CorpusFile, files, read

_LIMIT: Final = 256 << 20  # bytes of a list


@dataclass(frozen=True, slots=True)
class Deny:
    """A list of documents: files, sources (``a.jsonl#12``) or members ``id``; or texts."""

    names: tuple[str, ...] = ()
    texts: tuple[bytes, ...] = ()

    @property
    def digest(self) -> str | None:
        """SHA-256 over all of it; None: nothing is denied."""
        if not self.names and not self.texts:
            return None
        whole = hashlib.sha256()
        for one in (*(each.encode() for each in self.names), *self.texts):
            whole.update(b"%d:%s" % (len(one), one))
        return whole.hexdigest()

    def signed(self) -> tuple[int, npt.NDArray[np.uint32], npt.NDArray[np.uint64], npt.NDArray[np.uint32]]:
        """Return how many texts there are, and their signatures, words' hashes and numbers of words."""
        return (len(self.texts), *signatures(self.texts))


NOTHING: Final = Deny()


def read_deny(path: Path | None, *, text: str) -> Deny:
    """Return what is denied: the texts of a folder, of JSON lines or parquet; of any other file its lines are names.

    Raises:
        BadInput: it can't be read.
        CorpusUnreadable: a text can't.
        InputTooLarge: over 256 MiB.

    """
    if path is None:
        return NOTHING
    if path.is_dir() or CorpusFile(path, path.name, 0).kind != "text":
        return Deny(texts=tuple(one.text.encode() for file in files(path) for one in read(file, text=text)))
    try:
        with path.open("rb") as stream:
            raw = stream.read(_LIMIT + 1)
        lines = tuple(line.strip() for line in raw.decode("utf-8-sig").splitlines() if line.strip())
    except (OSError, UnicodeDecodeError):
        raise BadInput("the list of what is denied can't be read as text", where=str(path)) from None
    if len(raw) > _LIMIT:
        raise InputTooLarge(f"over {_LIMIT} bytes: no list of documents", where=str(path))
    return Deny(names=lines)
