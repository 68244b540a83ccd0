"""``strongroom engine``: run a sealed model from memory."""

from __future__ import annotations

import click

from strongroom.cli.frame import Call, Group, common, put, readable
from strongroom.core.ids import CheckpointName
from strongroom.custody.vault import Purpose
from strongroom.ports.engine import Sampling
from strongroom.wiring.engine import load_engine

engine = Group("engine", help="Run a sealed model from memory.")


@engine.command("generate", epilog="Example: strongroom engine generate chat:v1 --prompt 'What is a strongroom?'")
@click.argument("name", metavar="NAME:TAG")
@click.option("--prompt", required=True, help="What to ask.")
@click.option("--max-new-tokens", type=click.IntRange(1), default=128, show_default=True, help="At most so many.")
@click.option("--temperature", type=click.FloatRange(0), default=0.0, show_default=True, help="0 is greedy.")
@click.option("--purpose", default="generate", show_default=True, help="Why; a service must name its own.")
@common
def generate(call: Call, name: str, *, prompt: str, purpose: str, **choice: float) -> None:
    """Open NAME:TAG in memory and let it answer. Needs the extra 'torch'; no code from a model is ever run."""
    sampling = Sampling(max_new_tokens=int(choice["max_new_tokens"]), temperature=choice["temperature"])
    title = CheckpointName.parse(name)
    who = call.identity()
    with call.home.vault.open(who, title, Purpose(purpose, {"for": "generate"})) as reader:
        with call.progress(f"loading {title}", unit="tensors") as step:
            model = load_engine(reader, progress=step)
        live = None if call.as_json else _typed
        written = model.generate([{"role": "user", "content": prompt}], sampling=sampling, on_text=live)
    call.emit(
        {
            "checkpoint": str(title),
            "text": written.text,
            "prompt_tokens": written.prompt_tokens,
            "new_tokens": written.new_tokens,
            "finish": written.finish,
        },
        "",
    )


def _typed(text: str) -> None:
    """Print what the model writes as it comes: it can't move the cursor."""
    put(readable(text))
