"""The class of what was made from much, and statements that could not be read again."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from strongroom.access.deeds import Deeds
from strongroom.core.errors import BadInput
from strongroom.core.ids import CheckpointName
from strongroom.custody.corpora import CORPORA, Class, Corpora, Corpus
from tests.access.conftest import StepClock, made_office
from tests.access.office import Office

DIGEST = "0" * 64


@pytest.fixture
def office(tmp_path: Path, clock: StepClock, quick_argon: None) -> Iterator[Office]:
    with made_office(tmp_path, clock) as made:
        yield made


@pytest.fixture
def corpora(office: Office) -> Corpora:
    deeds = Deeds(office.records, office.journal, office.desk, series=CORPORA, home="home_test")
    return Corpora(deeds, office.desk)


def corpus(name: str, class_: Class) -> Corpus:
    return Corpus(name=name, class_=class_, licence="MIT", consent="public", jurisdictions=("DE",), report=DIGEST)


def named(at: int, side: str) -> CheckpointName:
    return CheckpointName.parse(f"model-{side}:v{at}")


def state(
    corpora: Corpora, who: Any, title: CheckpointName, parents: Sequence[str], stated: Corpus | None = None
) -> Any:
    return corpora.add(who, title, 1, corpus=stated, parents=parents)


def test_each_checkpoint_underneath_is_looked_at_once(
    office: Office, corpora: Corpora, monkeypatch: pytest.MonkeyPatch
) -> None:
    who, levels = office.owner, 9
    for side in "ab":
        state(corpora, who, named(0, side), (), corpus("web", "restricted" if side == "b" else "internal"))
    for level in range(1, levels):  # merged from both of the level below: 2 ** levels ways down
        for side in "ab":
            state(corpora, who, named(level, side), [str(named(level - 1, one)) for one in "ab"])
    asked, find = list[CheckpointName](), corpora.find
    monkeypatch.setattr(corpora, "find", lambda title: (asked.append(title), find(title))[1])
    found = corpora.classification(named(levels - 1, "a"))
    assert (found.class_, found.complete) == ("restricted", True)
    assert found.because.endswith("(model-b:v0 (corpus web))" + ")" * (levels - 3))
    assert len(asked) == len(set(asked)) == 2 * levels - 1


@pytest.mark.parametrize(
    "odd",
    [
        {"jurisdictions": ("x" * 201,)},
        {"licence": "x" * 201},
        {"report": "no digest"},
        {"findings": {str(one): 1 for one in range(1000)}},
        {"name": ""},
    ],
)
def test_what_could_not_be_read_again_is_not_said(office: Office, corpora: Corpora, odd: dict[str, Any]) -> None:
    title = named(1, "a")
    with pytest.raises(BadInput):
        state(corpora, office.owner, title, (), replace(corpus("web", "restricted"), **odd))
    assert corpora.find(title) is None
    assert state(corpora, office.owner, title, (), corpus("web", "restricted")).class_ == "restricted"
