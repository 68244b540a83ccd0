"""The scripted engine in a process of its own, behind a real link; its arguments are the path and the secret."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from strongroom.backends.link_unix import listen
from strongroom.core.secrets import Secret
from strongroom.engines.link_server import gateways
from strongroom.ports.completions import Ready
from tests.gateway.house import MODEL
from tests.gateway.scripted import Scripted


async def main() -> None:
    accept = gateways(Scripted(), Ready(model=MODEL, context=2048))
    await listen(Path(sys.argv[1]), Secret(bytes.fromhex(sys.argv[2])), accept)
    await asyncio.Event().wait()


asyncio.run(main())
