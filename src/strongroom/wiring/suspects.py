"""A suspect on disk: opened as weights, whatever format it is in, and named by its digest."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Final, Protocol

from strongroom.core.canonical import digest
from strongroom.core.errors import BadInput
from strongroom.lineage.adapters import OpenSuspect, WithAdapter, merged
from strongroom.lineage.files import open_regular
from strongroom.lineage.pickled import torch_files
from strongroom.ports.suspects import Suspect
from strongroom.wiring.table import load
