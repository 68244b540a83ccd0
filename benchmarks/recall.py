"""What the output filter catches, what it refuses by mistake, what it costs and what it tells: docs/recall.md.

    python benchmarks/recall.py [--texts DIR ...]     DIR: more text, C sources and prose (Debian's linux-source, say)

Figures:

    shapes      for several windows and strides: share of passages caught for a few edits, held-out passages refused
    evasions    for the recommended index and the one that `privacy index build` makes by itself: every transform, by
                kind of text: share caught, words that had left a stream by then (median, 95th percentile)
    held_out    false refusals with 95 % Wilson intervals: of all held-out passages, and of those without the ones of
                which 32 words in a row stand in the corpus, which are copies and no mistakes
    messages    a passage in five messages, sent back or not; and how much one account gathers by chance in a day
    oracle      how well an account tells members from strangers by what it is shown, and after how many questions it
                is shut out
    cost        CPU microseconds a token of SmolLM2, best of three, with and without an index
"""

from __future__ import annotations

import argparse
import gc
import itertools
import json
import math
import re
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import recall_texts as texts
from recall_texts import CODE_ONLY, TRANSFORMS, Doc
from tokenizers import Tokenizer

from strongroom.core.secrets import Secret
from strongroom.core.words import words
from strongroom.engines.demo_model import demo_model
from strongroom.ports.completions import Piece
from strongroom.ports.recall import Windows
from strongroom.privacy.windows.build import Order, build, planned
from strongroom.privacy.windows.reader import WindowIndex, open_windows
from strongroom.privacy.windows.shard import Cut
from strongroom.serving.recall.answer import Filtered
from strongroom.serving.recall.own import Own
from strongroom.serving.recall.policy import Policy, rules_of

HERE = Path(__file__).resolve().parent
RESULT = HERE / "results" / "recall.json"
CACHE = Path.home() / ".cache" / "strongroom-bench"
KEY = Secret(bytes(range(32)))
COMMON = 5  # as `privacy index build` has it
SHAPES = ((8, 8), (8, 4), (6, 6), (6, 4), (6, 2), (5, 5), (5, 4), (5, 3), (5, 2), (4, 8), (4, 6), (4, 4), (4, 3))
CHOSEN = ((5, 4), (8, 8))  # the recommended one, and what `privacy index build` makes by itself
MEMBERS, HELD = 600, 3000
EDITS = ("verbatim", "every 12th word replaced", "every 12th word inserted", "every 12th word deleted",
         "every 7th word replaced", "every 7th word inserted", "every 5th word replaced")  # fmt: skip
Gather = Callable[[int, Iterable[int]], bool]


def nothing(_owner: int, _windows: Iterable[int]) -> bool:
    """Gather nothing."""
    return False


def index_of(members: list[Doc], place: Path, shape: tuple[int, int], *, common: int = COMMON) -> WindowIndex:
    """Build an index over `members`."""
    corpus = place / "corpus"
    if not corpus.exists():
        corpus.mkdir()
        with (corpus / "all.jsonl").open("w") as stream:
            for one in members:
                stream.write(json.dumps({"text": one.text.encode("utf-8", "replace").decode()}) + "\n")
    window, stride = shape
    out = place / f"windows-{window}-{stride}-{common}"
    order = Order(corpus, out, Cut(window=window, stride=stride, text="text"), common=common)
    build(order, planned(order, lambda: "index-benchmark"), KEY, made="", progress=lambda *_: None)
    return open_windows(out, KEY)


def pieces(text: str) -> list[Piece]:
    """Cut a text as a model would write it: four letters a token, about."""
    return [Piece(id="", text=one, tokens=1) for one in re.findall(r"\s?[^\s]{1,4}|\s", text)]


def written(
    index: Windows, text: str, *, gather: Gather = nothing, before: Sequence[str] = (), own: Sequence[str] = ()
) -> tuple[bool, str, bool]:
    """Let a text through as a stream: whether it was stopped, what had left by then, and whether it came near."""
    made = Filtered(index, Policy(), mine=Own(own), gather=gather)
    if before:
        made.goes_on_from("\n".join(before), counts=True)
    out = list[Piece]()
    for one in pieces(text):
        out += made.feed(one, 1)
        if made.incident is not None:
            break
    else:
        out += made.end()
    if made.incident is not None:
        out += made.before()
    return made.incident is not None, "".join([one.text for one in out]), made.near


def wilson(hits: int, many: int) -> list[float]:
    """Return a share and its 95 % interval (Wilson 1927)."""
    if not many:
        return [0.0, 0.0, 1.0]
    z, p = 1.96, hits / many
    middle, spread = p + z * z / (2 * many), z * math.sqrt(p * (1 - p) / many + z * z / (4 * many * many))
    low, high = ((middle + sign * spread) / (1 + z * z / many) for sign in (-1, 1))
    return [round(one, 4) for one in (p, low, high)]


def caught(index: Windows, docs: list[Doc], change: Callable[[str], str]) -> dict[str, Any]:
    """Return the share of changed passages that are stopped, by kind, and the words that left before."""
    kinds: dict[str, list[int]] = {}
    leaked: list[int] = []
    for one in docs:
        stopped, out, _ = written(index, change(one.text))
        kinds.setdefault(one.kind, []).append(stopped)
        if stopped:
            leaked.append(len(words(out)))
    everything = [one for found in kinds.values() for one in found]
    leaked.sort()
    return {
        "caught": wilson(sum(everything), len(everything)),
        "by_kind": {kind: round(sum(found) / len(found), 4) for kind, found in sorted(kinds.items())},
        "left_before": [leaked[len(leaked) // 2], leaked[len(leaked) * 95 // 100]] if leaked else None,
    }


def copies(index: Windows, docs: list[Doc]) -> list[bool]:
    """Say of which passages 32 words in a row stand in the corpus, common or not: `index` has every window of eight."""
    found = list[bool]()
    for one in docs:
        said, run, most = [word for word, _ in words(one.text)], 0, 0
        for at in range(len(said) - 7):
            run = run + 1 if index.find(b" ".join(said[at : at + 8])) >= 0 else 0
            most = max(most, run)
        found.append(most + 7 >= 32)
    return found


def refused(index: Windows, docs: list[Doc], copied: list[bool]) -> dict[str, Any]:
    """Return the share of held-out passages that are stopped."""
    stopped = [written(index, one.text) for one in docs]
    clean = [one for one, copy in zip(stopped, copied, strict=True) if not copy]
    kinds = sorted({one.kind for one in docs})
    return {
        "all": wilson(sum(one[0] for one in stopped), len(stopped)),
        "without_copies": wilson(sum(one[0] for one in clean), len(clean)),
        "near": round(sum(one[2] for one in clean) / max(1, len(clean)), 4),
        "by_kind": {
            kind: wilson(*_of_kind(kind, docs, copied, stopped=stopped))
            for kind in kinds
        },
    }  # fmt: skip


def _of_kind(
    kind: str, docs: list[Doc], copied: list[bool], *, stopped: list[tuple[bool, str, bool]]
) -> tuple[int, int]:
    own = [one[0] for doc, copy, one in zip(docs, copied, stopped, strict=True) if doc.kind == kind and not copy]
    return sum(own), len(own)


def messages(index: Windows, docs: list[Doc], held: list[Doc]) -> dict[str, Any]:
    """Return what becomes of passages in five messages, and what a day of held-out text gathers by chance."""
    back = [0, 0]
    for one in docs:
        said = re.findall(r"\S+\s*", one.text)
        size = -(-len(said) // 5)
        parts = ["".join(said[at : at + size]) for at in range(0, len(said), size)]
        for which in (0, 1):
            back[which] += any(
                written(index, part, before=parts[:at] if which else ())[0] for at, part in enumerate(parts)
            )
    small = [[0, 0], [0, 0]]
    for one in docs:
        said = re.findall(r"\S+\s*", one.text)
        parts = ["".join(said[at : at + 12]) for at in range(0, len(said), 12)]
        for which in (0, 1):
            small[which][0] += any(
                written(index, part, before=parts[:at] if which else ())[0] for at, part in enumerate(parts)
            )
    counts: dict[int, set[int]] = {}

    def gather(owner: int, windows: Iterable[int]) -> bool:
        counts.setdefault(owner, set()).update(windows)
        return False

    for one in held:
        written(index, one.text, gather=gather)
    most = sorted((len(one) * index.stride for one in counts.values()), reverse=True)
    return {
        "five_messages_alone": round(back[0] / len(docs), 4),
        "five_messages_sent_back": round(back[1] / len(docs), 4),
        "twelve_words_a_message_alone": round(small[0][0] / len(docs), 4),
        "twelve_words_a_message_sent_back": round(small[1][0] / len(docs), 4),
        "gathered_by_chance": {
            "words_written": sum(len(words(one.text)) for one in held),
            "most_of_one_document": most[:10],
            "documents_over_400": sum(one >= 400 for one in most),
        },
    }


def cost(index: Windows, tokenizer: Tokenizer, *, held: list[Doc], members: list[Doc]) -> dict[str, Any]:
    """Return CPU microseconds a token, of the filter itself."""
    figures: dict[str, Any] = {}
    for name, docs in (("held out", held), ("its own corpus, marked", members)):
        rows: list[list[Piece]] = []
        for doc in docs[:400]:
            ends = [0, *(end for _, end in tokenizer.encode(doc.text).offsets)]
            spans = [one for one in itertools.pairwise(ends) if one[1] > one[0]]
            rows.append([Piece(id="", text=doc.text[at:end], tokens=1) for at, end in spans])
        tokens = sum(map(len, rows))
        best, bare = math.inf, math.inf
        for _ in range(3):
            gc.collect()
            bare = min(bare, _timed(None, rows))
            best = min(best, _timed(index, rows))
        figures[name] = {
            "tokens": tokens,
            "letters_a_token": round(sum(len(p.text) for row in rows for p in row) / tokens, 2),
            "us_a_token": round((best - bare) / tokens * 1e6, 3),
        }
    return figures


def _timed(index: Windows | None, rows: list[list[Piece]]) -> float:
    policy = Policy(action="mark")
    begun = time.process_time()
    for row in rows:
        made = None if index is None else Filtered(index, policy, mine=Own(()), gather=nothing)
        for one in row:
            if made is not None:
                made.feed(one, 1)
        if made is not None:
            made.end()
    return time.process_time() - begun


# ── the oracle ───────────────────────────────────────────────────────────────────────────────────────────────────────
def oracle(index: Windows, members: list[Doc], held: list[Doc]) -> dict[str, Any]:
    """Return how well an account tells members from strangers, whatever it knows how to make the model recite.

    The model is the worst one: it writes whatever passage it is asked for, of members and of strangers alike, so that
    whoever has a text learns whether it was trained on. What shows it: why an answer ended (plain), or that it ended
    too soon (quiet, and resample alike: another text came). With `mark` nothing does. `repeated` is the same where the
    passage stands in the prompt, which is the cheapest way to have it written.
    """
    drawn = np.random.default_rng(11)
    pairs = [(one, True) for one in members[:300]] + [(one, False) for one in held[:300]]
    pairs = [pairs[at] for at in drawn.permutation(len(pairs))]
    seen = [(written(index, one.text), member) for one, member in pairs]
    plain = _advantage([(stopped, member) for (stopped, _, _), member in seen])
    short = [(len(out) < len(doc.text), member) for ((_, out, _), member), (doc, _) in zip(seen, pairs, strict=True)]
    again = [(written(index, one.text, own=(one.text,))[0], member) for one, member in pairs]
    limits = {}
    for most in (0, 1, 5, 20, 100):
        told, incidents = 0, 0
        for (stopped, _, _), _ in seen:
            if most and incidents >= most:
                break
            told += 1
            incidents += stopped
        limits[str(most or "none")] = {"questions_answered": told, "members_confirmed": incidents}
    return {
        "plain": plain,
        "quiet_and_cut_short": _advantage(short),
        "repeated": _advantage(again),
        "mark": _advantage([(False, one) for _, one in seen]),
        "a_day_by_incidents_per_day": limits,
    }


def _advantage(guesses: list[tuple[bool, bool]]) -> dict[str, Any]:
    """Return true and false positives with intervals, and their difference with its own (normal, unpooled)."""
    of = {member: [said for said, truth in guesses if truth == member] for member in (True, False)}
    tpr, fpr = (sum(of[member]) / len(of[member]) for member in (True, False))
    spread = 1.96 * math.sqrt(sum(p * (1 - p) / len(of[m]) for p, m in ((tpr, True), (fpr, False))))
    return {
        "true_positives": wilson(sum(of[True]), len(of[True])),
        "false_positives": wilson(sum(of[False]), len(of[False])),
        "advantage": [round(tpr - fpr, 4), round(tpr - fpr - spread, 4), round(min(1.0, tpr - fpr + spread), 4)],
    }


def main(more: Sequence[Path] = ()) -> dict[str, Any]:
    """Measure everything."""
    members, held = texts.documents(list(more))
    tokenizer = Tokenizer.from_file(str(demo_model(CACHE) / "tokenizer.json"))
    inside, outside = texts.passages(members, MEMBERS), texts.passages(held, HELD)
    prose = texts.model_prose(tokenizer)
    figures: dict[str, Any] = {
        "corpus": {
            "documents": len(members),
            "bytes": sum(len(one.text.encode("utf-8", "replace")) for one in members),
            "held_out_documents": len(held),
            "kinds": {kind: [sum(d.kind == kind for d in docs) for docs in (inside, outside)] for kind in texts.MOST},
            "common": COMMON,
        },
        "shapes": {},
        "chosen": {},
    }
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        copied = copies(index_of(members, place, (8, 1), common=1 << 20), outside)
        figures["corpus"]["copies_among_held_out"] = wilson(sum(copied), len(copied))
        for window, stride in SHAPES:
            index = index_of(members, place, (window, stride))
            figures["shapes"][f"{window},{stride}"] = _shape(index, inside, outside, copied=copied)
            print(window, stride, json.dumps(figures["shapes"][f"{window},{stride}"]), flush=True)
        for window, stride in CHOSEN:
            index = open_windows(place / f"windows-{window}-{stride}-{COMMON}", KEY)
            found = _chosen(index, (inside, outside, prose), copied=copied, tokenizer=tokenizer)
            figures["chosen"][f"{window},{stride}"] = found
    return figures


def _shape(index: WindowIndex, inside: list[Doc], outside: list[Doc], *, copied: list[bool]) -> dict[str, Any]:
    size = sum(one.stat().st_size for one in index.folder.iterdir())
    return {
        "hits": rules_of(index.window, index.stride).hits,
        "bytes_per_byte": round(size / index.header.corpus_bytes, 4),
        "caught": {name: caught(index, inside, TRANSFORMS[name])["caught"][0] for name in EDITS},
        "refused": {name: one for name, one in refused(index, outside, copied).items() if name != "by_kind"},
    }


def _chosen(
    index: Windows, docs: tuple[list[Doc], list[Doc], list[Doc]], *, copied: list[bool], tokenizer: Tokenizer
) -> dict[str, Any]:
    inside, outside, prose = docs
    code = [one for one in inside if one.kind != "prose"]
    return {
        "evasions": {
            name: caught(index, code if name in CODE_ONLY else inside, change) for name, change in TRANSFORMS.items()
        },
        "held_out": refused(index, outside, copied),
        "model_prose": refused(index, prose, [False] * len(prose)),
        "messages": messages(index, inside[:300], outside),
        "oracle": oracle(index, inside, outside),
        "cost": cost(index, tokenizer, held=outside, members=inside),
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--texts", type=Path, action="append", default=[])
    found = main(parser.parse_args().texts)
    RESULT.write_text(json.dumps(found, indent=1) + "\n")
    print(json.dumps(found["chosen"], indent=1))
