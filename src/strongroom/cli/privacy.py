"""``strongroom privacy``: what goes into a model's training, and what must not come out again."""

from __future__ import annotations

from strongroom.cli.frame import Group
from strongroom.cli.privacy_filter import filter_, review
from strongroom.cli.privacy_index import index

privacy = Group("privacy", help="Training text: filtered, indexed, and compared with what a model says.")
privacy.add_command(filter_)
privacy.add_command(review)
privacy.add_command(index)
