"""The hops from command to disk are as many as docs/architecture.md says."""

from __future__ import annotations

import inspect
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from strongroom.backends.localfs import LocalBlob
from tests.docs.pages import page, rows, section
from tests.journeys.shell import Shell

VERB = "digest"
KINDS = {  # a function that only this way to the disk passes, and whether the segment cache is passed
    "a whole segment of a tensor": ("SealedTensors.get_tensor", False),
    "a segment that a tensor shares": ("SealedTensors.get_tensor", True),
    "the manifest": ("_small", False),
    "a shard's header": ("read_header", True),
    "the table of contents": ("SealedReader._read_contents", False),
}


def _way() -> list[tuple[str, str]]:
    """Return the Strongroom functions on the stack, the verb's first, as (module, name)."""
    frames = [(one.frame.f_globals.get("__name__", ""), one.frame.f_code.co_qualname) for one in inspect.stack()]
    # up to Python 3.11 a comprehension has a frame of its own, which is no call
    ours = [one for one in frames if one[0].startswith("strongroom.") and not one[1].endswith("comp>")][::-1]
    return ours[ours.index(("strongroom.cli.custody", VERB)) :]


@pytest.fixture
def ways(tmp_path: Path, quick_argon: None, monkeypatch: pytest.MonkeyPatch) -> list[list[tuple[str, str]]]:
    shell = Shell(tmp_path).settle()
    (tmp_path / "model").mkdir()
    tensors = {"large": np.zeros((800, 1000), np.float32), "small": np.ones(3, np.float32)}
    save_file(tensors, tmp_path / "model" / "model.safetensors")
    assert shell("custody", "seal", str(tmp_path / "model"), "chat:v1", who="carla").status == 0
    found: list[list[tuple[str, str]]] = []
    read = LocalBlob.read_into

    def spy(self: LocalBlob, offset: int, buffer: memoryview) -> int:
        found.append([*_way(), ("strongroom.backends.localfs", "LocalBlob.read_into")])
        return read(self, offset, buffer)

    monkeypatch.setattr(LocalBlob, "read_into", spy)
    assert shell("custody", VERB, "chat:v1", who="rosa").status == 0
    return found


def test_the_hops_are_those_of_the_page(ways: list[list[tuple[str, str]]]) -> None:
    table = rows(section(page("docs/architecture.md"), "Hops from command to disk"))
    told = {cells[0]: (int(cells[1]), int(cells[2])) for cells in table}
    for kind, (passed, cached) in KINDS.items():
        (row,) = [key for key in told if key.startswith(kind)]
        through = [
            way
            for way in ways
            if any(name == passed for _, name in way)
            and any(name == "SealedReader._cached" for _, name in way) == cached
        ]
        assert through, kind
        assert max(len({module for module, _ in way}) for way in through) == told[row][0], kind
        assert {len(way) - 1 for way in through} == {told[row][1]}, kind
    assert max(len(way) - 1 for way in ways) == max(calls for _, calls in told.values())
