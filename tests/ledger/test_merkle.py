"""RFC 6962 trees: the known answers of the Certificate Transparency code base, and proofs of all sizes."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strongroom.core.errors import ProofInvalid
from strongroom.ledger import merkle, tiles

# github.com/google/certificate-transparency, merkletree tests: these leaves, the root after each.
LEAVES = [
    bytes.fromhex(text)
    for text in ("", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f")
]
ROOTS = [
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]


def mth(leaves: list[bytes]) -> bytes:
    """RFC 6962's definition, word for word."""
    if not leaves:
        return hashlib.sha256(b"").digest()
    if len(leaves) == 1:
        return leaves[0]
    half = 1
    while half * 2 < len(leaves):
        half *= 2
    return hashlib.sha256(b"\x01" + mth(leaves[:half]) + mth(leaves[half:])).digest()


def grown(size: int) -> tuple[tiles.Growth, dict[tuple[int, int], bytes], list[bytes]]:
    leaves = [merkle.leaf_hash(str(n).encode()) for n in range(size)]
    growth = tiles.Growth(merkle.Frontier(), {})
    growth.extend(leaves)
    return growth, growth.changed, leaves


def test_known_roots() -> None:
    frontier = merkle.Frontier()
    assert frontier.root().hex() == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    for leaf, root in zip(LEAVES, ROOTS, strict=True):
        frontier.push(merkle.leaf_hash(leaf))
        assert frontier.root().hex() == root


def test_known_inclusion_and_consistency_proofs() -> None:
    # the same code base: PATH(5, D[8]) and PROOF(6, D[8])
    hashes = [merkle.leaf_hash(leaf) for leaf in LEAVES]
    growth = tiles.Growth(merkle.Frontier(), {})
    growth.extend(hashes)
    node = tiles.nodes(lambda level, n: growth.changed.get((level, n)))
    assert [one.hex() for one in merkle.prove_inclusion(5, 8, node)] == [
        "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
        "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    ]
    assert [one.hex() for one in merkle.prove_consistency(6, 8, node)] == [
        "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a",
        "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    ]


@pytest.mark.parametrize("size", [1, 2, 255, 256, 257, 511, 512, 700, 65535, 65536, 65537, 66000])
def test_growing_in_pieces_gives_the_definition_and_every_tile(size: int) -> None:
    leaves = [merkle.leaf_hash(str(n).encode()) for n in range(size)]
    growth, stored = tiles.Growth(merkle.Frontier(), {}), {}
    for start in range(0, size, 777):
        growth = growth.copy()
        growth.extend(leaves[start : start + 777])
        stored |= growth.changed
        reloaded = tiles.Growth.load(growth.frontier.size, lambda level, n: stored.get((level, n)))  # noqa: B023
        assert reloaded.frontier.root() == growth.frontier.root()
    assert growth.frontier.root() == mth(leaves)
    for level, n, width in tiles.widths(size):
        span = 256**level
        expected = [mth(leaves[at * span : (at + 1) * span]) for at in range(n * 256, n * 256 + width)]
        assert stored[level, n][: width * 32] == b"".join(expected)
    assert set(stored) == {(level, n) for level, n, _ in tiles.widths(size)}


@given(st.integers(1, 1200), st.data())
def test_inclusion_proofs_verify_and_altered_ones_do_not(size: int, data: st.DataObject) -> None:
    growth, stored, leaves = grown(size)
    root = growth.frontier.root()
    index = data.draw(st.integers(0, size - 1))
    proof = merkle.prove_inclusion(index, size, tiles.nodes(lambda level, n: stored.get((level, n))))
    merkle.check_inclusion(leaves[index], index, size, proof=proof, root=root)
    wrong = [(leaves[index], (index + 1) % size, proof)] if size > 1 else []
    wrong += [(merkle.leaf_hash(b"another"), index, proof), (leaves[index], index, [*proof, root])]
    if proof:
        at = data.draw(st.integers(0, len(proof) - 1))
        flipped = bytes([proof[at][0] ^ 1]) + proof[at][1:]
        wrong += [(leaves[index], index, [*proof[:at], flipped, *proof[at + 1 :]])]
        wrong += [(leaves[index], index, proof[:-1]), (leaves[index], index, proof[1:])]
    for leaf, place, path in wrong:
        with pytest.raises(ProofInvalid):
            merkle.check_inclusion(leaf, place, size, proof=path, root=root)


@given(st.integers(0, 1200), st.data())
def test_consistency_proofs_verify_and_altered_ones_do_not(new: int, data: st.DataObject) -> None:
    growth, stored, leaves = grown(new)
    old = data.draw(st.integers(0, new))
    before, after = (old, mth(leaves[:old])), (new, growth.frontier.root())
    proof = merkle.prove_consistency(old, new, tiles.nodes(lambda level, n: stored.get((level, n))))
    merkle.check_consistency(before, after, proof)
    wrong = [((old, bytes(32)), after, proof), (before, after, [*proof, bytes(32)])]
    if old not in {0, new}:
        at = data.draw(st.integers(0, len(proof) - 1))
        flipped = bytes([proof[at][0] ^ 1]) + proof[at][1:]
        wrong += [(before, (new, bytes(32)), proof), (before, after, proof[:-1])]
        wrong += [(before, after, [*proof[:at], flipped, *proof[at + 1 :]])]
    for first, second, path in wrong:
        with pytest.raises(ProofInvalid):
            merkle.check_consistency(first, second, path)


def test_every_proof_of_every_small_tree() -> None:
    for size in range(1, 40):
        growth, stored, leaves = grown(size)
        node = tiles.nodes(lambda level, n: stored.get((level, n)))  # noqa: B023
        for index in range(size):
            proof = merkle.prove_inclusion(index, size, node)
            merkle.check_inclusion(leaves[index], index, size, proof=proof, root=growth.frontier.root())
        for old in range(size + 1):
            proof = merkle.prove_consistency(old, size, node)
            merkle.check_consistency((old, mth(leaves[:old])), (size, growth.frontier.root()), proof)


def test_proofs_of_what_is_not_there_are_refused() -> None:
    _, stored, _ = grown(3)
    node = tiles.nodes(lambda level, n: stored.get((level, n)))
    with pytest.raises(ProofInvalid):
        merkle.prove_inclusion(3, 3, node)
    with pytest.raises(ProofInvalid):
        merkle.prove_consistency(4, 3, node)
    with pytest.raises(ProofInvalid):
        merkle.check_inclusion(bytes(32), 3, 3, proof=[], root=bytes(32))
    with pytest.raises(ProofInvalid):
        merkle.check_consistency((4, bytes(32)), (3, bytes(32)), [bytes(32)])
    with pytest.raises(ProofInvalid):
        merkle.check_consistency((3, bytes(32)), (4, bytes(32)), [])


@pytest.mark.parametrize(
    ("kind", "n", "width", "expected"),
    [
        (0, 0, 256, "tile/0/000"),
        (0, 1234067, 256, "tile/0/x001/x234/067"),  # the example of tlog-tiles
        (1, 999, 17, "tile/1/999.p/17"),
        ("entries", 1000, 256, "tile/entries/x001/000"),
    ],
)
def test_paths_are_those_of_the_specification(kind: int | str, n: int, width: int, expected: str) -> None:
    assert tiles.path(kind, n, width) == expected


def test_the_specifications_example_of_a_tree_of_70000() -> None:
    found = list(tiles.widths(70_000))
    assert sum(1 for level, _, width in found if level == 0 and width == 256) == 273
    assert [at for at in found if at[2] != 256] == [(0, 273, 112), (1, 1, 17), (2, 0, 1)]
    assert list(tiles.widths(256)) == [(0, 0, 256), (1, 0, 1)]
