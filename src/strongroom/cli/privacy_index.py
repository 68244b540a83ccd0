"""``strongroom privacy index``: which runs of words a corpus has, and where a text comes from."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Unpack

import click

from strongroom.cli.frame import Call, Group, Json, Place, common, plain
from strongroom.privacy.windows.check import Found
from strongroom.privacy.windows.layout import Header
from strongroom.privacy.windows.options import Options
from strongroom.privacy.windows.reader import WindowIndex
from strongroom.wiring.corpus_index import Keeper, build_index, check_file, open_index, read_key
from strongroom.wiring.table import load

index = Group("index", help="The window index of a corpus: no text is in it, and nobody reads it without its key.")

_key = click.option(
    "--key-file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="The index's key, 32 bytes or 64 hexadecimal digits, instead of one of the home's. Then nothing is logged.",
)


class _Build(Options):
    """The options of ``build``."""

    key_file: Path | None


@index.command("build", epilog="Example: strongroom privacy index build corpus/ --out corpus.index --as carla")
@click.argument("source", metavar="SRC", type=click.Path(exists=True, path_type=Path))
@click.option("--out", required=True, metavar="INDEX", type=Place(path_type=Path), help="The folder to make.")
@click.option("--window", type=click.IntRange(2, 64), default=8, show_default=True, help="Words of a window.")
@click.option("--stride", type=click.IntRange(1, 64), default=8, show_default=True, help="Words from one to the next.")
@click.option(
    "--common",
    "common_documents",
    type=click.IntRange(min=2),
    default=5,
    show_default=True,
    help="Leave out windows that so many different documents have: licences and other boilerplate.",
)
@click.option(
    "--leave-out",
    metavar="TEXTS",
    type=click.Path(exists=True, path_type=Path),
    help="A file or folder of texts whose every window is left out, too.",
)
@click.option("--text", default="text", show_default=True, help="The member of a JSON or parquet record with its text.")
@click.option("--no-values", is_flag=True, help="Do not know keys and numbers of cards by themselves, wherever.")
@click.option(
    "--jobs", type=click.IntRange(1, 256), default=os.cpu_count() or 1, help="Processes. [default: one a core]"
)
@_key
@common
def build(call: Call, source: Path, *, out: Path, **options: Unpack[_Build]) -> None:
    """Index the corpus SRC: JSON lines, parquet or text, a file or a folder, plain, .gz or .zst.

    A build that was cut short goes on where it stopped when the command is repeated.
    """
    order_of = load("corpus", "order")
    order = order_of(source, out, **{name: value for name, value in options.items() if name != "key_file"})
    with call.progress(f"indexing {plain(source)}") as step:
        header = build_index(order, _keeper(call, options["key_file"]), step)
    size = sum(one.bytes for one in header.members.values())
    guarantee = guarantee_of(header)
    document: dict[str, Json] = {
        "windows": header.windows.entries,
        "bytes": size,
        "guarantee": guarantee,
        "id": header.id,
        "window": header.window,
        "stride": header.stride,
        "common": header.common,
        "values": header.values.entries,
        "documents": header.documents,
        "corpus_bytes": header.corpus_bytes,
        "corpus": header.corpus,
    }
    share = f", {size / header.corpus_bytes:.3f} of the text" if header.corpus_bytes else ""
    call.emit(
        document,
        f"{out} knows {header.windows.entries} windows and {header.values.entries} values of"
        f" {header.documents} documents ({size} bytes{share}).\n{guarantee['words']}",
    )


def guarantee_of(header: Header) -> dict[str, Json]:
    """Return what an index is certain to find, and what not."""
    run = header.window + header.stride - 1
    words = (
        f"Every run of {run} words of the corpus is found in a text, whatever its case, punctuation and spacing,"
        f" unless {header.common} documents have it or it was left out. Of shorter runs, those of {header.window} words"
        " or more may be."
    )
    return {"run": run, "window": header.window, "stride": header.stride, "common": header.common, "words": words}


@index.command("check", epilog="Example: strongroom privacy index check answer.txt --index corpus.index --as carla")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "--index", "folder", required=True, metavar="INDEX", type=click.Path(path_type=Path), help="The window index."
)
@_key
@common
def check(call: Call, file: Path, *, folder: Path, key_file: Path | None) -> None:
    """Say which stretches of the text in FILE the corpus has, and in which documents."""
    found, opened = check_file(file, folder, _keeper(call, key_file))
    spans: list[Json] = [
        {"start": one.start, "end": one.end, "source": opened.source(one.owner), "words": one.words}
        for one in found.spans
    ]
    values: list[Json] = [
        {"start": one.start, "end": one.end, "source": opened.source(one.owner)} for one in found.values
    ]
    document: dict[str, Json] = {
        "verdict": found.verdict,
        "coverage": found.coverage,
        "longest_run": found.longest_run,
        "spans": spans,
        "values": values,
        "words": found.words,
        "by_chance": found.by_chance,
        "guarantee": guarantee_of(opened.header),
    }
    call.emit(document, _said(found, opened))


def _said(found: Found, opened: WindowIndex) -> str:
    first = (
        f"{found.verdict}: {found.coverage:.1%} of {found.words} words are in windows of the corpus; the longest run"
        f" has {found.longest_run} words."
    )
    lines = [first]
    for one in found.spans:
        source = plain(opened.source(one.owner))
        lines.append(f"  characters {one.start} to {one.end}, {one.words} words: {source}")
    lines += [f"  a value that ends at character {one.end}: {plain(opened.source(one.owner))}" for one in found.values]
    if found.verdict == "inconclusive" and not found.spans:
        lines.append("The text is too short: nothing in it was certain to be found.")
    return "\n".join(lines)


@index.command("show", epilog="Example: strongroom privacy index show corpus.index --as carla")
@click.argument("folder", metavar="INDEX", type=click.Path(path_type=Path))
@_key
@common
def show(call: Call, folder: Path, *, key_file: Path | None) -> None:
    """Check every byte of an index and say what it is."""
    header = open_index(folder, _keeper(call, key_file), "look at a window index").header
    document: dict[str, Json] = {
        "id": header.id,
        "made": header.made,
        "documents": header.documents,
        "corpus_bytes": header.corpus_bytes,
        "corpus": header.corpus,
        "windows": header.windows.entries,
        "values": header.values.entries,
        "bytes": sum(one.bytes for one in header.members.values()),
        "guarantee": guarantee_of(header),
    }
    call.emit(
        document,
        f"{header.id}, made {header.made}: {header.windows.entries} windows and {header.values.entries} values of"
        f" {header.documents} documents.\n{guarantee_of(header)['words']}",
    )


def _keeper(call: Call, key_file: Path | None) -> Keeper:
    return Keeper(call.home, call.identity()) if key_file is None else Keeper(own=read_key(key_file))
