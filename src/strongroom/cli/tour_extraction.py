"""The tour's extraction: a model's hidden size out of a server's log probabilities, and not through the gateway."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, cast

from strongroom.cli.tour import Document, Tour, Unexpected, granted

LEFTOVERS: Final = ("extraction",)


class Extraction:
    """A thief with a key, in front of a small model of the tour's own."""

    def __init__(self, tour: Tour) -> None:
        """Attack what is made in the tour's folder."""
        self._tour = tour

    def acts(self) -> list[Callable[[], None]]:
        """Return the acts."""
        return [self.extract]

    def extract(self) -> None:
        """The same questions, without and with the gateway; with it the thief asks ten times as often."""
        tour, rows = self._tour, list[Document]()

        def bare() -> str:
            words = ("attacks", "run", "project", "--only", "brief", "--work", str(tour.work / "extraction"))
            found = granted(tour.call(*words))
            rows.extend(cast("list[Document]", found["rows"]))
            row = _of(rows, "none")
            if not row["found"] or row["estimate"] != row["width"]:
                raise Unexpected(f"the bare server: {row}")
            cliff = f"a cliff of {row['gap']} in the singular values"
            return f"{row['estimate']}, exactly, by {row['queries']} questions: {cliff}"

        def guarded() -> str:
            row = _of(rows, "standard")
            if row["found"]:
                raise Unexpected(f"through the gateway: {row}")
            return (
                f"not found by {row['queries']} questions; the first that was refused was number {row['first_refused']}"
            )

        what = "log probabilities of 20 tokens, lifted into sight by logit_bias"
        tour.step("A stock server tells the width of its model", what, bare)
        tour.step("The gateway before it does not", "the same, asked ten times as often", guarded)


def _of(rows: list[Document], guard: str) -> Document:
    return next(row for row in rows if row["guard"] == guard)
