"""How kernels are compiled: the one place that touches numba, which ships no types."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, TypeVar, cast

from strongroom.core.errors import MissingExtra
from strongroom.core.privacy_errors import EXTRA

try:
    import numba  # pyright: ignore[reportMissingTypeStubs]
except ModuleNotFoundError:
    raise MissingExtra("numba is not installed", where="kernels", remedy=EXTRA) from None

F = TypeVar("F", bound=Callable[..., object])
_NUMBA: Final = cast("Any", numba)


def compiled(function: F) -> F:
    """Compile `function` at its first call, without Python's lock; what came out is kept beside the source file."""
    return cast("F", _NUMBA.njit(cache=True, nogil=True)(function))


def inlined(function: F) -> F:
    """Compile `function` into whoever calls it."""
    return cast("F", _NUMBA.njit(cache=True, nogil=True, inline="always")(function))
