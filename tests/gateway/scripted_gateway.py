"""The gateway with the scripted engine in place of the one behind a link."""

import sys

from strongroom.gateway.__main__ import main
from strongroom.wiring import table

table.TABLE["completions"]["unix"] = "tests.gateway.scripted:Scripted"  # type: ignore[index]
sys.exit(main())
