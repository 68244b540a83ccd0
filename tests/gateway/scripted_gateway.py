"""The gateway with the scripted engine in place of an http one."""

import sys

from strongroom.gateway.__main__ import main
from strongroom.wiring import table

table.TABLE["completions"]["http"] = "tests.gateway.scripted:Scripted"  # type: ignore[index]
sys.exit(main())
