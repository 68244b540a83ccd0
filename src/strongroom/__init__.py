"""Strongroom protects an organisation's AI models from theft: the map of the house.

core      words that all rooms share          ports     what rooms ask of the world
ledger    a Merkle log of every act           access    who may do what, and who else must agree
custody   weights at rest and in memory       engines   the only code that runs a model
backends  one file per technology             wiring    settings and URLs to objects
cli       the front door
"""

from __future__ import annotations

__version__ = "0.1.0"
