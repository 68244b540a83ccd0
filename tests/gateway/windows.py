"""A real window index over texts of the test's own."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from strongroom.core.canonical import digest
from strongroom.core.secrets import Secret
from strongroom.privacy.windows.build import Order, build, planned
from strongroom.privacy.windows.shard import Cut, FindValues
from strongroom.serving.recall.policy import Policy
from strongroom.serving.roster import RosterRecall

INDEX_KEY = bytes(range(100, 132))
IDENT = "index-0123456789"


def built(place: Path, texts: Sequence[str], *, window: int = 5, stride: int = 4, values: Iterable[str] = ()) -> Path:
    """Index `texts` beside `place`, each a document; return the folder."""
    corpus = place.with_name(f"{place.name}-corpus")
    corpus.mkdir()
    for at, text in enumerate(texts):
        (corpus / f"{at:05}.txt").write_text(text)
    known = [one.encode() for one in values]

    def finder() -> FindValues:
        return lambda texts: [(at, one) for at, text in enumerate(texts) for one in known if one in text]

    order = Order(corpus, place, Cut(window=window, stride=stride, text="text"), common=10, values=finder)
    build(
        order,
        planned(order, lambda: IDENT),
        Secret(INDEX_KEY),
        made="2026-11-23T00:00:00.000Z",
        progress=lambda *_: None,
    )
    return place


def told(folder: Path, policy: Policy) -> RosterRecall:
    """Say of an index what control would."""
    from strongroom.privacy.windows.layout import read_sealed

    header = read_sealed(folder).header
    return RosterRecall(header.id, digest(header), str(folder), INDEX_KEY, policy)
