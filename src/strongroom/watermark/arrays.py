"""The part of the array API standard (data-apis.org, 2024.12) that the mark's arithmetic is written in, typed.

``array_api_compat`` hands out numpy or torch under the standard's names without importing either; it has no types, so
the few names that are used here are declared once, and everything above is checked against them.
"""

from __future__ import annotations

from typing import Protocol, cast

import array_api_compat as compat  # pyright: ignore[reportMissingTypeStubs] - it ships none


class Array(Protocol):
    """A numpy array or a torch tensor, on whatever device."""

    @property
    def shape(self) -> tuple[int, ...]:
        """The lengths of its axes."""
        ...

    @property
    def dtype(self) -> object:
        """The type of its elements."""
        ...

    def __getitem__(self, at: object, /) -> Array:
        """Return a part, or the array with a new axis."""
        ...

    def __add__(self, other: Array | float, /) -> Array:
        """Add; integers wrap around."""
        ...

    def __sub__(self, other: Array | float, /) -> Array:
        """Subtract."""
        ...

    def __mul__(self, other: Array | float, /) -> Array:
        """Multiply; integers wrap around."""
        ...

    def __neg__(self) -> Array:
        """Negate."""
        ...

    def __xor__(self, other: Array | int, /) -> Array:
        """Exclusive or."""
        ...

    def __and__(self, other: Array | int, /) -> Array:
        """Bitwise and."""
        ...

    def __rshift__(self, other: int, /) -> Array:
        """Arithmetic shift to the right."""
        ...

    def __or__(self, other: Array | int, /) -> Array:
        """Bitwise or."""
        ...

    def __lshift__(self, other: int, /) -> Array:
        """Shift to the left."""
        ...

    def __ge__(self, other: Array | float, /) -> Array:
        """Compare."""
        ...

    def __int__(self) -> int:
        """The one element."""
        ...

    def __bool__(self) -> bool:
        """The one element."""
        ...


class Namespace(Protocol):
    """The functions of the array API that the mark needs."""

    float64: object
    int64: object

    def asarray(self, values: object, /, *, dtype: object = None, device: object = None) -> Array:
        """Make an array."""
        ...

    def arange(self, stop: int, /, *, dtype: object = None, device: object = None) -> Array:
        """Count from 0."""
        ...

    def astype(self, x: Array, dtype: object, /) -> Array:
        """Change the type of the elements."""
        ...

    def log(self, x: Array, /) -> Array:
        """Natural logarithm."""
        ...

    def log1p(self, x: Array, /) -> Array:
        """Natural logarithm of 1 + x."""
        ...

    def argmax(self, x: Array, /, *, axis: int) -> Array:
        """Place of the largest."""
        ...

    def max(self, x: Array, /, *, axis: int, keepdims: bool = False) -> Array:
        """The largest."""
        ...

    def isfinite(self, x: Array, /) -> Array:
        """Neither infinite nor NaN."""
        ...

    def all(self, x: Array, /) -> Array:
        """Whether all are true."""
        ...

    def count_nonzero(self, x: Array, /) -> Array:
        """How many are true."""
        ...

    def nonzero(self, x: Array, /) -> tuple[Array, ...]:
        """Places of what is true."""
        ...

    def stack(self, parts: list[Array], /) -> Array:
        """Join along a new first axis."""
        ...


def namespace(*arrays: Array) -> Namespace:
    """Return the array API of the library that all `arrays` come from.

    Raises:
        TypeError: they are not arrays, or of two libraries.

    """
    return cast("Namespace", compat.array_namespace(*arrays))  # pyright: ignore[reportUnknownMemberType]


def device_of(array: Array) -> object:
    """Return the device that `array` lives on, as its library names it."""
    return cast("object", compat.device(array))  # pyright: ignore[reportUnknownMemberType, reportArgumentType]
