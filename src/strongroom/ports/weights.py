"""A checkpoint as an engine sees it: named tensors and small files, wherever and however they are kept."""

from __future__ import annotations

from typing import Protocol


class WeightSource(Protocol):
    """An open checkpoint. Names are the checkpoint's own; what comes back has been authenticated by the source."""

    def keys(self) -> list[str]:
        """Return the names of all tensors."""
        ...

    def get_tensor(self, name: str) -> object:
        """Return the tensor: a numpy array, or what the source's maker of tensors made of its memory."""
        ...

    def files(self) -> list[str]:
        """Return the paths of the files in the checkpoint, e.g. ``config.json`` and ``model.safetensors``."""
        ...

    def read_file(self, path: str) -> bytes:
        """Return the bytes of one of `files`."""
        ...
