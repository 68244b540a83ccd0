"""Files as they are, or out of gzip or zstd."""

from __future__ import annotations

import gzip
import io
from collections.abc import Mapping
from pathlib import Path
from typing import IO, TYPE_CHECKING, Final, cast

from strongroom.core.errors import MissingExtra
from strongroom.core.privacy_errors import EXTRA

if TYPE_CHECKING:
    from typing_extensions import Buffer

PACKED: Final[Mapping[str, str]] = {".gz": "gzip", ".zst": "zstd"}
_READ: Final = 1 << 20
_STEP: Final = 16 << 10  # packed bytes: the most repetitive unpack to some 100 MB
_WINDOW: Final = 1 << 27  # bytes that a zstd file may ask to be held


def opened(path: Path) -> IO[bytes]:
    """Open a file; what is packed in it is unpacked while it is read.

    Raises:
        OSError: it can't be read.
        MissingExtra: what unpacks zstd is not installed.

    """
    packed = PACKED.get(path.suffix.lower())
    if packed == "gzip":
        return cast("IO[bytes]", gzip.open(path))
    if packed == "zstd":
        return io.BufferedReader(_Unzstd(path), _READ)
    return path.open("rb")


class _Unzstd(io.RawIOBase):
    """A zstd file, unpacked; frames that follow one another are one text, and one that is cut off is an error."""

    def __init__(self, path: Path) -> None:
        try:
            import zstandard  # noqa: PLC0415 - only who reads such files needs it
        except ModuleNotFoundError:
            raise MissingExtra("zstandard is not installed", where=path.name, remedy=EXTRA) from None
        self._broken = zstandard.ZstdError
        self._unpacking = zstandard.ZstdDecompressor(max_window_size=_WINDOW)
        self._frame: zstandard.ZstdDecompressionObj | None = None
        self._file = path.open("rb")
        self._packed = self._plain = b""

    def readable(self) -> bool:
        """Say yes."""
        return True

    def readinto(self, buffer: Buffer) -> int:
        """Fill `buffer`; return how many bytes there were.

        Raises:
            EOFError: what is packed is broken, or cut off.

        """
        room = memoryview(buffer).cast("B")
        while not self._plain and self._more():
            pass
        size = min(len(room), len(self._plain))
        room[:size] = self._plain[:size]
        self._plain = self._plain[size:]
        return size

    def _more(self) -> bool:
        """Unpack a little more; return whether there may be still more."""
        self._packed = self._packed or self._file.read(_STEP)
        if not self._packed:
            if self._frame is not None:
                raise EOFError
            return False
        frame = self._frame or self._unpacking.decompressobj()
        try:
            self._plain = frame.decompress(self._packed)
        except self._broken:
            raise EOFError from None
        self._packed = frame.unused_data
        self._frame = None if frame.eof else frame
        return True

    def close(self) -> None:
        """Close the file."""
        self._file.close()
        super().close()
