"""What can go wrong with corpora and their indexes, as leaves of the one tree (`core.errors`)."""

from typing import Final

from strongroom.core.errors import NotFoundError, TamperError, UsageError

EXTRA: Final = "Install it with: pip install 'strongroom[privacy]'"  # the remedy where a package for corpora is missing


class CorpusUnreadable(UsageError, code="privacy.corpus_unreadable"):
    """A file of a corpus is not what its name says: cut off, no UTF-8, no JSON, without a text."""

    remedy = "Correct or remove the file that is named, then repeat the command: it goes on where it stopped."


class BadRules(UsageError, code="privacy.bad_rules"):
    """A file of rules does not parse, or one of its expressions can't be compiled."""

    remedy = "Correct the rule that is named; docs/privacy.md shows the file's form."


class NoSuchIndex(NotFoundError, code="privacy.no_such_index"):
    """No window index at that place."""

    remedy = "Build one with `strongroom privacy index build SRC --out INDEX`."


class IndexAltered(TamperError, code="privacy.index_altered"):
    """A window index is not the one that was built: a file is missing, cut, changed, or of another index."""

    remedy = "Build the index again, and find out who could write there."
