"""Files of several formats in one folder as one suspect: a base in safetensors, say, and its adapter pickled."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Self

from strongroom.core.errors import BadInput
from strongroom.lineage.adapters import OpenSuspect
from strongroom.ports.marks import TensorInfo
from strongroom.ports.suspects import Storage


class Together:
    """The tensors of several open suspects (`ports.suspects.Suspect`), which are closed with it."""

    def __init__(self, parts: Sequence[OpenSuspect]) -> None:
        """Put `parts` together: the first, the base, says in which format.

        Raises:
            BadInput: a tensor is in two of them.

        """
        self._parts = parts
        self._where: dict[str, OpenSuspect] = {}
        self._infos: dict[str, TensorInfo] = {}
        for part in parts:
            for name, info in part.infos().items():
                if name in self._infos:
                    raise BadInput(f"tensor {name[:200]!r} is in another file as well", where="folder")
                self._where[name], self._infos[name] = part, info

    def infos(self) -> Mapping[str, TensorInfo]:
        """Return every tensor's dtype and shape."""
        return self._infos

    def read_into(self, name: str, first: int, buffer: memoryview) -> None:
        """Fill `buffer` with the elements of `name` from element `first` on.

        Raises:
            BadInput: there is no such tensor, or the file became shorter.

        """
        if name not in self._where:
            raise BadInput("no such tensor in the suspect", where=name[:200])
        self._where[name].read_into(name, first, buffer)

    def tokens(self) -> Sequence[str] | None:
        """Return the base's vocabulary."""
        return self._parts[0].tokens()

    def storage(self) -> Storage:
        """Return how the parts are stored; an adapter's scaling counts wherever it is."""
        found = [part.storage() for part in self._parts]
        kinds = {name: kind for one in found for name, kind in one.kinds.items()}
        missing = tuple(name for one in found for name in one.missing)
        scaling = next((one.scaling for one in found if one.scaling != 1), 1.0)
        return Storage(found[0].format, kinds, missing, scaling)

    def close(self) -> None:
        """Let go of the files."""
        for part in self._parts:
            part.close()

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(self, *_error: object) -> None:
        """Close."""
        self.close()
