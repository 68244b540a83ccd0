"""RFC 6962 Merkle trees over SHA-256: hashing, growing, proving, checking. Pure.

A complete aligned subtree is named by its height and its index at that height: it covers the entries
``index * 2**height`` to ``(index + 1) * 2**height``. Whoever proves gives a `NodeSource` that knows those; the ragged
right edge is composed here.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence

from strongroom.core.errors import ProofInvalid

HASH_BYTES = 32
EMPTY_ROOT = hashlib.sha256(b"").digest()
NodeSource = Callable[[int, int], bytes]
"""Given height and index, the hash of that complete subtree."""


def leaf_hash(data: bytes) -> bytes:
    """Return the hash of an entry (RFC 6962, section 2.1: SHA-256(0x00 || entry))."""
    return hashlib.sha256(b"\x00" + data).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Return the hash of an inner node (SHA-256(0x01 || left || right))."""
    return hashlib.sha256(b"\x01" + left + right).digest()


def subtree_root(hashes: Sequence[bytes]) -> bytes:
    """Return the root over a power of two of neighbouring hashes."""
    row = list(hashes)
    while len(row) > 1:
        row = [node_hash(row[at], row[at + 1]) for at in range(0, len(row), 2)]
    return row[0]


class Frontier:
    """The right edge of a growing tree: the roots of its complete subtrees, largest first (a compact range)."""

    __slots__ = ("nodes", "size")

    def __init__(self, size: int = 0, nodes: Sequence[bytes] = ()) -> None:
        """Take the roots of the complete subtrees of a tree of `size` leaves: one per set bit, highest first."""
        self.size = size
        self.nodes = list(nodes)

    @classmethod
    def load(cls, size: int, node: NodeSource) -> Frontier:
        """Return the frontier of a tree of `size` leaves, from its stored nodes."""
        heights = [height for height in range(size.bit_length() - 1, -1, -1) if size >> height & 1]
        return cls(size, [node(height, (size >> height) - 1) for height in heights])

    def copy(self) -> Frontier:
        """Return one that grows on its own."""
        return Frontier(self.size, self.nodes)

    def push(self, leaf: bytes) -> list[bytes]:
        """Add a leaf hash; return the roots of the subtrees that it completed: at height 1, 2, 3 and so on."""
        completed: list[bytes] = []
        rest = self.size
        while rest & 1:
            leaf = node_hash(self.nodes.pop(), leaf)
            completed.append(leaf)
            rest >>= 1
        self.nodes.append(leaf)
        self.size += 1
        return completed

    def root(self) -> bytes:
        """Return the tree's root hash (RFC 6962: the hash of the empty string for an empty tree)."""
        if not self.nodes:
            return EMPTY_ROOT
        root = self.nodes[-1]
        for node in reversed(self.nodes[:-1]):
            root = node_hash(node, root)
        return root


def _split(width: int) -> int:
    """Return the largest power of two below `width`."""
    return 1 << ((width - 1).bit_length() - 1)


def range_root(start: int, end: int, node: NodeSource) -> bytes:
    """Return the root over the leaves from `start` to `end`, aligned as RFC 6962's recursion leaves them."""
    width = end - start
    if width & (width - 1) == 0:
        height = width.bit_length() - 1
        return node(height, start >> height)
    middle = start + _split(width)
    return node_hash(range_root(start, middle, node), range_root(middle, end, node))


def prove_inclusion(index: int, size: int, node: NodeSource) -> list[bytes]:
    """Return the inclusion proof (RFC 6962, section 2.1.1) of leaf `index` in the tree of `size`, sibling first.

    Raises:
        ProofInvalid: there is no such leaf in a tree of that size.

    """
    if not 0 <= index < size:
        raise ProofInvalid(f"no leaf {index} in a tree of {size}", where="inclusion proof")
    proof: list[bytes] = []
    start, end = 0, size
    while end - start > 1:
        middle = start + _split(end - start)
        if index < middle:
            proof.append(range_root(middle, end, node))
            end = middle
        else:
            proof.append(range_root(start, middle, node))
            start = middle
    return proof[::-1]


def prove_consistency(old: int, new: int, node: NodeSource) -> list[bytes]:
    """Return the consistency proof (RFC 6962, section 2.1.2) from the tree of `old` leaves to that of `new`.

    Raises:
        ProofInvalid: `old` is not between 0 and `new`.

    """
    if not 0 <= old <= new:
        raise ProofInvalid(f"no proof from size {old} to {new}", where="consistency proof")
    if old in {0, new}:
        return []
    proof: list[bytes] = []
    start, end = 0, new
    while old != end:  # in terms of the RFC: SUBPROOF(m, D[start:end], b), and b is start == 0
        middle = start + _split(end - start)
        if old <= middle:
            proof.append(range_root(middle, end, node))
            end = middle
        else:
            proof.append(range_root(start, middle, node))
            start = middle
    if start:
        proof.append(range_root(start, end, node))
    return proof[::-1]


def check_inclusion(leaf: bytes, index: int, size: int, *, proof: Sequence[bytes], root: bytes) -> None:
    """Return if `proof` shows `leaf` at `index` of the tree of `size` with `root` (RFC 9162, section 2.1.3.2).

    Raises:
        ProofInvalid: it does not.

    """
    if not 0 <= index < size:
        raise ProofInvalid(f"no leaf {index} in a tree of {size}", where="inclusion proof")
    at, last, value = index, size - 1, leaf
    for sibling in proof:
        if last == 0:
            raise ProofInvalid("the proof is too long", where="inclusion proof")
        if at & 1 or at == last:
            value = node_hash(sibling, value)
            while not at & 1 and at:
                at, last = at >> 1, last >> 1
        else:
            value = node_hash(value, sibling)
        at, last = at >> 1, last >> 1
    if last or value != root:
        raise ProofInvalid("the proof does not lead to the root", where="inclusion proof")


def check_consistency(old: tuple[int, bytes], new: tuple[int, bytes], proof: Sequence[bytes]) -> None:
    """Return if `proof` shows that the tree `new` (size, root) extends the tree `old` (RFC 9162, section 2.1.4.2).

    Raises:
        ProofInvalid: it does not.

    """
    (old_size, old_root), (new_size, new_root) = old, new
    if old_size in {0, new_size}:
        expected = EMPTY_ROOT if old_size == 0 else new_root
        if proof or old_root != expected:
            raise ProofInvalid("the roots contradict each other", where="consistency proof")
        return
    if not 0 < old_size < new_size:
        raise ProofInvalid(f"no proof from size {old_size} to {new_size}", where="consistency proof")
    if _walk_consistency(old, new_size, proof) != (old_root, new_root):
        raise ProofInvalid("the proof does not lead to both roots", where="consistency proof")


def _walk_consistency(old: tuple[int, bytes], new_size: int, proof: Sequence[bytes]) -> tuple[bytes, bytes]:
    """Return the two roots that a consistency proof leads to."""
    old_size, old_root = old
    path = list(proof) if old_size & (old_size - 1) else [old_root, *proof]
    if not path:
        raise ProofInvalid("the proof is empty", where="consistency proof")
    at, last = old_size - 1, new_size - 1
    while at & 1:
        at, last = at >> 1, last >> 1
    first = second = path[0]
    for sibling in path[1:]:
        if last == 0:
            raise ProofInvalid("the proof is too long", where="consistency proof")
        if at & 1 or at == last:
            first, second = node_hash(sibling, first), node_hash(sibling, second)
            while not at & 1 and at:
                at, last = at >> 1, last >> 1
        else:
            second = node_hash(second, sibling)
        at, last = at >> 1, last >> 1
    if last:
        raise ProofInvalid("the proof is too short", where="consistency proof")
    return first, second
