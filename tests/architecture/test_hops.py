"""From the command to the disk in at most six hops: calls of ours between the verb and what touches the file."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.journeys.shell import Shell, model_folder

LIMIT = 6


def stack(verb: str) -> list[str]:
    """Return our functions on the stack, from the verb down to here."""
    names: list[str] = []
    frame = sys._getframe(2)
    while frame is not None:
        ours = "/strongroom/" in frame.f_code.co_filename
        if ours and not frame.f_code.co_name.startswith("<"):  # a comprehension is no hop
            names.append(frame.f_code.co_name)
        if frame.f_code.co_name == verb and "/cli/" in frame.f_code.co_filename:
            return names[::-1]
        frame = frame.f_back
    return []


@pytest.mark.parametrize(
    ("words", "verb", "call"),
    [
        (("custody", "digest", "chat:v1"), "digest", "preadv"),
        (("custody", "seal", "MODEL", "chat:v1"), "seal", "write"),
    ],
)
def test_command_to_disk(
    tmp_path: Path, quick_argon: None, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], verb: str, call: str
) -> None:
    shell = Shell(tmp_path).settle()
    model = model_folder(tmp_path / "model", rows=8192)
    typed = tuple(str(model) if word == "MODEL" else word for word in words)
    if verb != "seal":
        assert shell("custody", "seal", str(model), "chat:v1", who="carla").status == 0
    seen: list[list[str]] = []
    real: Callable[..., object] = getattr(os, call)

    def spy(*args: object, **kwargs: object) -> object:
        if found := stack(verb):
            seen.append(found)
        return real(*args, **kwargs)

    monkeypatch.setattr(os, call, spy)
    assert shell(*typed, who="carla").status == 0
    payload = [one for one in seen if "get_tensor" in one or "_seal_one" in one]
    assert payload
    longest = max(payload, key=len)
    assert len(longest) - 1 <= LIMIT, longest
