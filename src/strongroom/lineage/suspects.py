"""A suspect file: safetensors, alone or in a folder of shards, read piece by piece and never believed."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from strongroom.core.errors import BadInput, InputTooLarge
from strongroom.core.safetensors_header import LENGTH_BYTES, Header, header_length, parse_header
from strongroom.lineage.files import FILES_LIMIT, Opened, Place, WeightFiles, entries, read_index
from strongroom.ports.marks import TensorInfo

_SUFFIX: Final = ".safetensors"
_INDEX: Final = "model.safetensors.index.json"
_GGUF: Final = ".gguf"
_HEADERS_LIMIT: Final = 1 << 28  # bytes of all headers together: what a folder's shards name is held while it is read


class SafetensorsFiles(WeightFiles):
    """The tensors of one file, or of all shards in a folder (`ports.suspects.Suspect`). Use it in a ``with``."""

    def __init__(self, path: Path, *, partial: bool = False) -> None:
        """Open what is at `path` and read every header; with `partial`, a file may end before its tensors do.

        Raises:
            BadInput: no safetensors file, or one that breaks a rule of the format; a tensor that is there twice.
            InputTooLarge: a header beyond its limits, or over 256 MiB of headers.

        """
        super().__init__(path, "safetensors")
        self._partial = partial
        self._headers = 0  # bytes so far
        try:
            for file in _files(path):
                self._add(self._open(file))
        except BaseException:
            self.close()
            raise
        promised = read_index(self._folder, _INDEX)
        if path.is_dir() or path.name in promised.values():
            self._expect(promised)

    def _add(self, file: Opened) -> None:
        for name, tensor in self._header(file).tensors.items():
            info = TensorInfo(tensor.dtype, tensor.shape)
            self._put(name, Place(file, info, tensor.start, tensor.stop))

    def _header(self, file: Opened) -> Header:
        first = file.read(0, min(LENGTH_BYTES + 1, file.size))
        if first[LENGTH_BYTES:] != b"{":  # before a text's first letters are taken for a length
            raise BadInput("neither safetensors nor GGUF nor a PyTorch file", where=file.name)
        length = header_length(first, total=file.size, where=file.name)
        self._headers += length
        if self._headers > _HEADERS_LIMIT:
            raise InputTooLarge(f"headers of over {_HEADERS_LIMIT >> 20} MiB together", where=file.name)
        raw = file.read(LENGTH_BYTES, length)
        return parse_header(raw, total=file.size, where=file.name, partial=self._partial)


def _files(path: Path) -> list[Path]:
    """Return the safetensors files at `path`."""
    if not path.is_dir():
        return [path]
    names = entries(path)
    found = [one for one in names if one.name.endswith(_SUFFIX)]
    if not found and any(one.name.endswith(_GGUF) for one in names):
        raise BadInput("a folder with GGUF files and no safetensors: name the .gguf file", where=str(path))
    if not found:
        raise BadInput("neither safetensors nor GGUF nor PyTorch files in the folder", where=str(path))
    if len(found) > FILES_LIMIT:
        raise BadInput(f"{len(found)} safetensors files in the folder", where=str(path))
    return found
