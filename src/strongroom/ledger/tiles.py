"""Tiles of the tree and bundles of entries, as C2SP tlog-tiles lays them out. Pure.

A tile holds up to 256 hashes side by side at a height that is a multiple of 8; every other node is hashed from one.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Iterator

from strongroom.core.errors import BadInput, LedgerAltered
from strongroom.ledger.merkle import HASH_BYTES, Frontier, NodeSource, subtree_root

HEIGHT = 8
WIDTH = 1 << HEIGHT
MAX_ENTRY = 0xFFFF
"""An entry's length is written in two bytes."""
TileAt = tuple[int, int]
"""Level and index within the level."""
TileSource = Callable[[int, int], bytes | None]
"""Given level and index, the tile's hashes as stored, or None."""


def path(kind: int | str, n: int, width: int = WIDTH) -> str:
    """Return the path of tile `n` at level `kind` (or of the ``entries`` bundle), e.g. ``tile/0/x001/234.p/17``."""
    last = f"{n % 1000:03}"
    while n := n // 1000:
        last = f"x{n % 1000:03}/{last}"
    return f"tile/{kind}/{last}" + ("" if width == WIDTH else f".p/{width}")


def widths(size: int) -> Iterator[tuple[int, int, int]]:
    """Yield (level, index, width) of every tile of a tree of `size` leaves."""
    level = 0
    while count := size >> (HEIGHT * level):
        for n in range(-(-count // WIDTH)):
            yield level, n, min(WIDTH, count - n * WIDTH)
        level += 1


def split(hashes: bytes) -> list[bytes]:
    """Return a tile's hashes one by one."""
    return [hashes[at : at + HASH_BYTES] for at in range(0, len(hashes), HASH_BYTES)]


def nodes(tile: TileSource) -> NodeSource:
    """Return a source of nodes that reads each tile once, and names a tile that is not there.

    Raises (the source, when called):
        LedgerAltered: a tile is missing or too short.

    """
    seen: dict[TileAt, bytes] = {}

    def node(height: int, index: int) -> bytes:
        level, within = divmod(height, HEIGHT)
        n, at = divmod(index << within, WIDTH)
        count = 1 << within
        if (level, n) not in seen:
            seen[level, n] = tile(level, n) or b""
        part = seen[level, n][at * HASH_BYTES : (at + count) * HASH_BYTES]
        if len(part) != count * HASH_BYTES:
            raise LedgerAltered("a tile of the ledger is missing or too short", where=path(level, n))
        return subtree_root(split(part))

    return node


class Growth:
    """Leaves being added to a tree: the frontier, the right-edge tiles, and which tiles have changed."""

    def __init__(self, frontier: Frontier, edge: dict[int, bytearray]) -> None:
        """Start from a `frontier` and the hashes of the partial tile of each level (an absent level is empty)."""
        self.frontier = frontier
        self.edge = edge
        self.changed: dict[TileAt, bytes] = {}

    @classmethod
    def load(cls, size: int, tile: TileSource) -> Growth:
        """Return the state of a tree of `size` leaves, read from its right-edge tiles.

        Raises:
            LedgerAltered: a tile is missing or too short.

        """
        edge: dict[int, bytearray] = {}
        for level in range(size.bit_length() // HEIGHT + 1):
            count = size >> (HEIGHT * level)
            n, width = divmod(count, WIDTH)
            stored = (tile(level, n) or b"")[: width * HASH_BYTES] if width else b""
            if len(stored) != width * HASH_BYTES:
                raise LedgerAltered("a tile of the ledger is missing or too short", where=path(level, n, width))
            edge[level] = bytearray(stored)
        return cls(Frontier.load(size, nodes(lambda level, _: bytes(edge.get(level, b"")))), edge)

    def copy(self) -> Growth:
        """Return one that grows on its own and has changed nothing yet."""
        return Growth(self.frontier.copy(), {level: bytearray(tile) for level, tile in self.edge.items()})

    def extend(self, leaves: Iterable[bytes]) -> None:
        """Add leaf hashes."""
        touched: set[int] = set()
        for leaf in leaves:
            completed = self.frontier.push(leaf)
            touched.add(0)
            self._place(0, leaf)
            for level in range(1, len(completed) // HEIGHT + 1):
                touched.add(level)
                self._place(level, completed[level * HEIGHT - 1])
        for level in touched:
            if self.edge[level]:
                self.changed[level, self.frontier.size >> (HEIGHT * (level + 1))] = bytes(self.edge[level])

    def _place(self, level: int, value: bytes) -> None:
        """Append a hash to the right-edge tile of `level`; a full tile is set aside and the next begins."""
        tile = self.edge.setdefault(level, bytearray())
        tile += value
        if len(tile) == WIDTH * HASH_BYTES:
            # The frontier has counted this leaf already: the tile that it filled is the one before the next.
            self.changed[level, (self.frontier.size >> (HEIGHT * (level + 1))) - 1] = bytes(tile)
            self.edge[level] = bytearray()


def pack(entries: Iterable[bytes]) -> bytes:
    """Return an entry bundle: each entry behind its length as a big-endian uint16."""
    return b"".join(struct.pack(">H", len(entry)) + entry for entry in entries)


def unpack(bundle: bytes, *, where: str) -> list[bytes]:
    """Return the entries of a bundle.

    Raises:
        BadInput: it ends within an entry.

    """
    entries: list[bytes] = []
    at = 0
    while at < len(bundle):
        end = at + 2 + int.from_bytes(bundle[at : at + 2], "big")
        if at + 2 > len(bundle) or end > len(bundle):
            raise BadInput("the bundle ends within an entry", where=where)
        entries.append(bundle[at + 2 : end])
        at = end
    return entries
