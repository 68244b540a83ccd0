"""Strings that end a text: nothing of one is given out, wherever the borders between tokens fall."""

from __future__ import annotations

from collections.abc import Sequence


class Stops:
    """Passes text on, but for what is, or could yet become, a stop string."""

    def __init__(self, stops: Sequence[str]) -> None:
        """End the text at whichever of `stops` is complete first."""
        self._stops = [one for one in stops if one]
        self._held = ""

    def feed(self, text: str) -> tuple[str, bool]:
        """Return what of the text so far may be given out now, and whether a stop string ended it."""
        if not self._stops:
            return text, False
        self._held += text
        # first to be complete wins, and of those the longest: so the borders between tokens make no difference
        found = [(at + len(one), at) for one in self._stops if (at := self._held.find(one)) >= 0]
        if found:
            given, self._held = self._held[: min(found)[1]], ""
            return given, True
        keep = self._open()
        given, self._held = self._held[: len(self._held) - keep], self._held[len(self._held) - keep :]
        return given, False

    def flush(self) -> str:
        """Return what was held back: the text is over, and no stop string came of it."""
        given, self._held = self._held, ""
        return given

    def _open(self) -> int:
        """Return how many of the last characters could be the beginning of a stop string."""
        longest = min(len(self._held), max(len(one) for one in self._stops) - 1)
        for size in range(longest, 0, -1):
            if any(one.startswith(self._held[-size:]) for one in self._stops):
                return size
        return 0
