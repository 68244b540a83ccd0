"""``strongroom privacy``: what a model may be trained on, and what it must not give back."""

from __future__ import annotations

from strongroom.cli.frame import Group
from strongroom.cli.privacy_filter import filter_

privacy = Group("privacy", help="Training text: personal data, secrets and duplicates filtered out before a model sees it.")
privacy.add_command(filter_)
