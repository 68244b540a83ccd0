"""The program's own diagnostics: JSON lines on standard error, from which a secret can't be read (rule 9).

Only declared fields pass, each in its declared form; a text with a long run of key-like letters is withheld whatever
the field. So a key in hexadecimal or base 64 can't get through, and there is no field for free text.
"""

from __future__ import annotations

import logging
import re
import sys
from typing import Final

import structlog
from structlog.typing import EventDict, WrappedLogger

_TOKEN = re.compile(r"[\w.:/@ -]{0,160}")
_KEYLIKE = re.compile(r"[A-Za-z0-9+/=_-]{25,}")
WITHHELD: Final = "[withheld]"
FIELDS: Final = frozenset(
    {"event", "level", "timestamp", "home", "who", "action", "object", "code", "where", "request", "reason", "role"}
)
NUMBERS: Final = frozenset({"index", "size", "bytes", "segments", "seconds", "status", "pid"})

log: structlog.typing.FilteringBoundLogger = structlog.get_logger("strongroom")


def guard(_logger: WrappedLogger, _method: str, fields: EventDict) -> EventDict:
    """Let declared fields in their declared form pass, and withhold everything else."""
    return {name: _passable(name, value) for name, value in fields.items() if name in FIELDS | NUMBERS}


def configure(level: str) -> None:
    """Send diagnostics of `level` (debug, info, warning, error) and above to standard error."""
    threshold = logging.getLevelNamesMapping().get(level.upper(), logging.WARNING)
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            guard,
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(threshold),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=False,
    )


def _passable(name: str, value: object) -> object:
    if name in NUMBERS:
        return value if isinstance(value, int | float) else WITHHELD
    if not isinstance(value, str) or not _TOKEN.fullmatch(value):
        return WITHHELD
    return value if name == "timestamp" else _KEYLIKE.sub(WITHHELD, value)
