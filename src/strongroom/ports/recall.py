"""What the output filter asks of whoever knows which texts a model was trained on: is this window one of theirs?

Serving knows nothing of index files, and privacy nothing of answers: they meet here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Protocol

ABSENT: Final = -1
VALUE_WORDS: Final = 8  # a value has no more words than these


class Windows(Protocol):
    """Windows of words of a corpus, and values (keys, numbers of cards and accounts) that were found in it.

    Windows that many documents have in common (licences, boilerplate) are not in it. Threads may share it.
    """

    @property
    def window(self) -> int:
        """How many words make a window."""
        ...

    @property
    def stride(self) -> int:
        """Each document's every so many-th window is known: so a run of ``window + stride - 1`` words is found."""
        ...

    def find(self, window: bytes) -> int:
        """Return the number of a document that has these words (`core.words`, joined by one space), or `ABSENT`."""
        ...

    def find_value(self, last: Sequence[bytes]) -> int:
        """Return the number of a document with a value that these words end with, or `ABSENT`.

        `last`: the last words so far, up to `VALUE_WORDS`. However a value is spelt (4111 1111, 4111-1111), its words
        joined by nothing are the same.
        """
        ...
