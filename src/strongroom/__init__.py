"""Strongroom protects an organisation's AI models from theft: the map of the house.

core      words that all rooms share          ports     what rooms ask of the world
ledger    a Merkle log of every act           access    who may do what, and who else must agree
custody   weights at rest and in memory       watermark a mark in answers that names the account
engines   the only code that runs a model     backends  one file per technology
wiring    settings and URLs to objects        cli       the front door
"""

from __future__ import annotations

from typing import Any

__version__ = "0.1.0"

_VERBS = frozenset(("create_home", "open_home"))


def __getattr__(name: str) -> Any:  # noqa: ANN401 - PEP 562: the public verbs, resolved when they are asked for
    """Return a public verb of the house."""
    if name not in _VERBS:
        raise AttributeError(name)
    from strongroom.wiring import home  # noqa: PLC0415 - late, so that `import strongroom` costs nothing

    return getattr(home, name)
