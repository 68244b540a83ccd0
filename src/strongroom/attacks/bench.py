"""What the attack on marked copies works on: the reference host, 1,000 recipients' marks for it, and what is leaked.

Nothing here is anybody's secret: the master secret is printed below, so that the same copies, and the same fine-tunes
of them, are made again wherever the attack runs.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path
from typing import Final

import ml_dtypes
import numpy as np
import numpy.typing as npt

from strongroom.core.secrets import Secret
from strongroom.engines.folder import Folder
from strongroom.lineage.codes import Design, own_code
from strongroom.lineage.decode import Candidate, Reading, Scheme, scheme_of
from strongroom.lineage.keys import CheckpointKeys, checkpoint_keys, derive
from strongroom.lineage.mark import WeightMark, WeightMarks
from strongroom.lineage.projections import Projections, find_projections
from strongroom.lineage.readings import against_original, blind
from strongroom.lineage.suspects import SafetensorsFiles
from strongroom.ports.marks import TensorInfo, Tensors

Array = npt.NDArray[np.float32]

MASTER: Final = Secret(bytes(range(32)))
RECIPIENTS: Final = 1000
_NUMPY: Final[Mapping[str, npt.DTypeLike]] = {"F16": "<f2", "BF16": ml_dtypes.bfloat16, "F32": "<f4"}


class Leaked:
    """The MLP projections of a leaked file, in memory (`ports.marks.Tensors`), in the dtype that it was written in."""

    def __init__(self, tensors: Iterable[tuple[str, Array]], dtype: str) -> None:
        """Write the float32 `tensors` down as `dtype`, in safetensors' words."""
        self.dtype = dtype
        self.arrays = {name: values.astype(_NUMPY[dtype]) for name, values in tensors}

    def infos(self) -> Mapping[str, TensorInfo]:
        """Return every tensor's dtype and shape."""
        return {name: TensorInfo(self.dtype, values.shape) for name, values in self.arrays.items()}

    def read_into(self, name: str, first: int, buffer: memoryview) -> None:
        """Fill `buffer` with the elements of `name` from element `first` on."""
        raw = self.arrays[name].reshape(-1).view(np.uint8)
        start = first * self.arrays[name].itemsize
        buffer[:] = raw[start : start + len(buffer)].data


@dataclass(frozen=True)
class Bench:
    """A host model in a folder, with the marks of its copies."""

    folder: Path
    name: str  # such as reference-host-bfloat16: its id in the derivation of keys
    _marks: dict[int, WeightMark] = field(default_factory=dict[int, WeightMark])

    @cached_property
    def files(self) -> SafetensorsFiles:
        """The host's weights."""
        return SafetensorsFiles(self.folder)

    @cached_property
    def source(self) -> Folder:
        """The host as a model."""
        return Folder(self.folder)

    @cached_property
    def where(self) -> Projections:
        """The projections that carry marks."""
        return find_projections(self.files.infos())

    @property
    def names(self) -> list[str]:
        """The names of these projections."""
        return [one.name for one in self.where.tensors]

    @property
    def dtype(self) -> str:
        """The host's dtype, in safetensors' words."""
        return self.where.tensors[0].dtype

    @cached_property
    def keys(self) -> CheckpointKeys:
        """The secrets that all copies share."""
        return checkpoint_keys(MASTER, self.name)

    @cached_property
    def scheme(self) -> Scheme:
        """What all codes have in common."""
        return scheme_of(self.keys.biases, self.keys.common, segments=self.segments)

    @cached_property
    def candidates(self) -> list[Candidate]:
        """The 1,000 recipients' codes."""
        names = (copy_name(at) for at in range(RECIPIENTS))
        return [Candidate(one, one, own_code(derive(MASTER, "code", one), self.scheme.bias)) for one in names]

    def mark(self, at: int, *, master: Secret = MASTER) -> WeightMark:
        """Return the mark of recipient `at`; by another `master`, one that somebody else puts in."""
        if master is not MASTER:
            return WeightMarks(master, _segments).prepare(self.name, copy_name(at), self.files)
        if at not in self._marks:
            self._marks[at] = WeightMarks(MASTER, _segments).prepare(self.name, copy_name(at), self.files)
        return self._marks[at]

    def original(self, name: str) -> Array:
        """Return a projection of the host, unmarked."""
        return _floats(self._raw(name), self.dtype, self.files.infos()[name].shape)

    def copy(self, at: int, name: str) -> Array:
        """Return a projection of recipient `at`'s copy."""
        raw = self._raw(name)
        self.mark(at).apply(name, 0, memoryview(raw))
        return _floats(raw, self.dtype, self.files.infos()[name].shape)

    def whole_copy(self, at: int) -> Iterator[tuple[str, Array]]:
        """Yield every projection of recipient `at`'s copy."""
        return ((name, self.copy(at, name)) for name in self.names)

    @property
    def segments(self) -> int:
        """How many segments the codes have, the checkpoint's own among them."""
        return Design().segments

    def read(self, leaked: Tensors) -> tuple[Reading, Reading]:
        """Return the leaked file's readings: blind, and against the host."""
        return (
            blind(leaked, self.where, self.keys, segments=self.segments),
            against_original(leaked, self.files, self.where, keys=self.keys, segments=self.segments),
        )

    def _raw(self, name: str) -> bytearray:
        info = self.files.infos()[name]
        raw = bytearray(math.prod(info.shape) * np.dtype(_NUMPY[info.dtype]).itemsize)
        self.files.read_into(name, 0, memoryview(raw))
        return raw


class Patched:
    """A model whose projections are another's (`ports.weights.WeightSource`): what the leaked file runs as."""

    def __init__(self, source: Folder, leaked: Leaked) -> None:
        """Put the projections of `leaked` into `source`."""
        self._source = source
        self._leaked = leaked

    def keys(self) -> list[str]:
        """Return the names of all tensors."""
        return self._source.keys()

    def get_tensor(self, name: str) -> object:
        """Return a tensor: the leaked one, where there is one."""
        found = self._leaked.arrays.get(name)
        return self._source.get_tensor(name) if found is None else found

    def files(self) -> list[str]:
        """Return the paths of the model's files."""
        return self._source.files()

    def read_file(self, path: str) -> bytes:
        """Return one of them."""
        return self._source.read_file(path)


@cache
def copy_name(at: int) -> str:
    """Return the id of recipient `at`'s copy."""
    return f"copy-{at:04d}"


def _segments(_checkpoint: str) -> int:
    return Design().segments


def _floats(raw: bytearray, dtype: str, shape: tuple[int, ...]) -> Array:
    return np.frombuffer(raw, _NUMPY[dtype]).reshape(shape).astype(np.float32)
