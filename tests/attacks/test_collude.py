"""The attack on marked copies of a real model: who launders or colludes is named, nobody else is."""

from __future__ import annotations

from pathlib import Path

import pytest

from strongroom.core.errors import BadInput

collude = pytest.importorskip("strongroom.attacks.collude")


def silent(_what: str, _done: int, _total: int) -> None:
    """Watch nothing."""


def test_a_row_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="no such row"):
        collude.run(tmp_path, only=["everything"], tokens=0, progress=silent)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_thieves_are_named_on_a_real_model(tmp_path: Path) -> None:
    alone = ("as-is", "q4_0", "prune-50", "re-marked")
    together = ("3-average", "3-pick-weights", "3-majority", "3-noise", "3-noise-units", "5-noise-units")
    rows = collude.run(tmp_path, only=["unmarked", "packaged", *alone, *together], tokens=0, progress=silent)
    found = {row.attack: row for row in rows}
    assert all(row.innocent_named == 0 for row in rows)
    assert (found["unmarked"].named, found["unmarked"].named_blind) == ((), ())
    for name in alone:
        assert found[name].named == found[name].named_blind == ("copy-0007",), name
        assert found[name].log10_p_blind < -12, name
    for name in together:
        assert len(found[name].named) == len(found[name].named_blind) == found[name].holders, name
        assert found[name].checkpoint_log10_p < -12, name
    assert found["packaged"].note.startswith("refused")
