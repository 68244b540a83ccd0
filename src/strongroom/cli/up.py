"""``strongroom up``: serve a sealed model, or a foreign engine, through the gateway."""

from __future__ import annotations

import asyncio
from urllib.parse import urlsplit

import click
from msgspec import to_builtins

from strongroom.access.identity import Identity
from strongroom.access.policy import Question
from strongroom.cli.frame import Call, Json, common, read_secret
from strongroom.core.errors import BadInput, NoSuchCheckpoint, NotPermitted
from strongroom.core.ids import CheckpointName
from strongroom.core.serving_errors import OpenEngine
from strongroom.wiring.foreign import models_of
from strongroom.wiring.home import Home
from strongroom.wiring.open_engine import open_routes
from strongroom.wiring.up import Plan, Running, preparing

PORT = 8420


@click.command("up", epilog="Example: strongroom up --model chat:v1 --as carla")
@click.option("--model", metavar="NAME:TAG", help="What to serve; the home's only checkpoint if it has one.")
@click.option("--engine", metavar="URL", help="Ask an OpenAI-compatible server instead. Its text carries no mark.")
@click.option("--engine-key-file", metavar="FILE", help="A file with that server's key.")
@click.option("--port", type=click.IntRange(0, 65535), default=PORT, show_default=True, help="0 is any.")
@common
def up(call: Call, *, model: str | None, engine: str | None, engine_key_file: str | None, port: int) -> None:
    """Serve until interrupted; prints the gateway's URL when a model is ready. Whoever starts it answers for it."""
    home, settings = call.home, call.home.settings.serving
    who = call.identity()
    home.desk.require(who, Question("serving.run"))
    if engine is None:
        title = _meant(call, model)
        _may_open(home, who, title)
        plan = Plan(model=str(title), names=(str(title),), engine="", host=settings.host, port=port)
    else:
        _check(engine, settings.foreign_engine)
        secret = None if engine_key_file is None else read_secret(engine_key_file, "engine's key", "--engine-key-file")
        offered = models_of(engine, secret)  # asked for in any case: so one that is not there is noticed now
        names = (model,) if model else offered
        _look_for_open_doors(call, engine, names[0])
        plan = Plan(model="", names=names, engine=engine, engine_key=secret, host=settings.host, port=port)

    def ready(running: Running) -> None:
        document: dict[str, Json] = to_builtins(running)
        call.emit(document, _words(running))

    def stopping() -> None:
        call.err.print("Stopping: open answers get ten seconds.")

    with preparing(home, who, plan) as made:
        asyncio.run(made.run(ready, stopping))


def _meant(call: Call, model: str | None) -> CheckpointName:
    """Return the checkpoint that is meant.

    Raises:
        NoSuchCheckpoint: there is none.
        BadInput: there are several, and none is named.

    """
    if model is not None:
        return call.home.vault.registry.current(CheckpointName.parse(model)).title
    titles = [record.title for record in call.home.vault.registry.all()]
    if not titles:
        raise NoSuchCheckpoint("the home holds no checkpoint to serve", where="--model")
    if len(titles) > 1:
        raise BadInput(f"name one of {', '.join(map(str, titles))[:300]}", where="--model")
    return titles[0]


def _may_open(home: Home, who: Identity, title: CheckpointName) -> None:
    """Refuse whoever may not open what is to be served."""
    try:
        home.desk.require(who, Question("custody.open", title, "serve"))
    except NotPermitted as error:
        remedy = "Have somebody start it who may open the model: a custodian, with --as NAME."
        raise NotPermitted(error.message, where=error.where, remedy=remedy) from None


def _check(engine: str, policy: str) -> None:
    """Return if `engine` is a URL, and foreign engines may be used.

    Raises:
        BadInput: it is no http URL, or the settings refuse foreign engines.

    """
    parts = urlsplit(engine)
    if parts.scheme not in {"http", "https"} or not parts.hostname or parts.username:
        raise BadInput("an engine's URL is http://HOST[:PORT] or https://…, without a password", where="--engine")
    if policy == "refuse":
        raise BadInput("the settings refuse engines that can't mark (serving.foreign_engine)", where="--engine")


def _look_for_open_doors(call: Call, engine: str, model: str) -> None:
    """Refuse an engine that people can ask directly, unless the settings say otherwise.

    Raises:
        OpenEngine: it answers without a key.

    """
    found = open_routes(engine, model)
    if not found:
        return
    said = f"the engine answers without a key at {', '.join(found)}"
    if call.home.settings.serving.open_engine == "refuse":
        raise OpenEngine(said, where="--engine")
    call.err.print(f"WARNING: {said}. Whoever reaches it there is held to no limit and no policy.")


def _words(running: Running) -> str:
    mark = "every account's text carries its own mark" if running.marked else "this engine can't mark: text is UNMARKED"
    return (
        f"{running.url}\n\n"
        f"  models      {', '.join(running.models)}\n"
        f"  mark        {mark}\n"
        f"  control API {running.api} (token: run/api-token in the home)\n"
        f"  processes   {', '.join(f'{name} {pid}' for name, pid in running.pids.items())}\n\n"
        "Make an account and a key with `strongroom serving account add NAME` and `strongroom serving key add NAME`.\n"
        "Stop with Ctrl-C."
    )
