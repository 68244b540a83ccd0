"""A trace's report as one HTML page: no script, nothing fetched, every value escaped."""

from __future__ import annotations

import shlex
from typing import Final

from strongroom.cli import trace_drawing as drawing
from strongroom.cli.frame import moment
from strongroom.cli.page import header, items, page, pairs, row, safe, section, table
from strongroom.cli.trace_words import chance, count
from strongroom.lineage.bank import calibrated, effects, null_bank
from strongroom.lineage.compare import EXACT, Outcome
from strongroom.lineage.traced import ASSUMPTIONS, LineageFound, RecipientFound, Trace, is_marked, limits
from strongroom.lineage.verdict import MATCHINGS, judge
from strongroom.wiring.lineage_report import Replayed

_KINDS: Final = {
    "exact": "Holds for any two models under the assumption that is named; no other model had to be measured for it.",
    "calibrated": "A rank among pairs of models that are known to be unrelated. With n pairs it is never below "
    "1 / (n + 1).",
    "extrapolated": "Read off a tail that was fitted to those pairs, beyond the largest of them. It is asked for, "
    "besides, but by itself is never enough for a match.",
}
_TESTS: Final = {
    "coordinates": "Coordinates of the residual stream bear the same numbers",
    "units": "Hidden units bear the same numbers, seen in the stream's coordinates",
    "units-anchored": "Hidden units bear the same numbers, seen by what tokens do to them",
    "adapter": "Lines that write alike in the checkpoint have learnt alike",
    "matching": "Hidden units can be matched wherever they stand, in the stream's coordinates",
    "matching-anchored": "Hidden units can be matched wherever they stand, by what tokens do to them",
}
_COLORS: Final = {"match": "failed", "no_match": "ok", "common_ancestor": "refused", "inconclusive": "refused"}
_STEPS: Final = {"lora": "LoRA"}


def render(found: Replayed, *, vkey: str, report: str) -> str:
    """Return the page of a report that was replayed; `report` is its file's name, `vkey` the log's verifier key."""
    trace, said = found.trace, found.said
    parts = [
        _head(found),
        section(
            "How sure that is",
            "Every number, what it is corrected for, and what it assumes.",
            _numbers(trace, said.figures.evidence.lineage),
        ),
    ]
    if trace.lineage is not None:
        note = "All of them, also those that found nothing. The effect is a share of what was sampled."
        parts.append(section("Tests that were made", note, _tests(trace.lineage)))
        parts.append(section("Layers", "Where each layer of the suspect comes from.", _layers(trace.lineage)))
    parts.append(section("Whose copy", trace.recipient.reason, _recipient(trace.recipient, found)))
    if trace.ancestor is not None:
        parts.append(section("Public base", "What the checkpoint has in common with everybody.", _base(trace)))
    parts.append(section("How it was made", "From the difference, aligned with the checkpoint.", _derivation(found)))
    parts.append(section("What this does not show", "Read it before anybody is accused.", items(limits(trace))))
    parts.append(
        section(
            "The record",
            "What was traced, by whom, and how anybody makes the verdict again.",
            _record(found, vkey=vkey, report=report),
        )
    )
    return page(safe(_title(found)), "\n".join(parts))


def sentence(found: Replayed) -> str:
    """Return the verdict in one sentence."""
    trace, file = found.trace, found.said.file
    base = trace.ancestor.base if trace.ancestor else "a public base"
    which = "the registered checkpoints"
    if trace.opened < trace.registered:
        which = f"the {trace.opened} checkpoints that were opened, of {trace.registered:,}"
    said = {
        "match": f"{file} was made from {trace.checkpoint}{_whose(trace)}.",
        "no_match": f"{file} was made from none of {which}, as far as weights can tell.",
        "common_ancestor": f"{file} and {trace.checkpoint} both come from {base}; it was not made from ours.",
        "inconclusive": f"Whether {file} was made from a registered checkpoint can't be told.",
    }
    return said[trace.verdict]


def _title(found: Replayed) -> str:
    return f"Where {found.said.file} comes from"


def _whose(trace: Trace) -> str:
    """Say whose copy a suspect is; without a mark, what else may have made it a match."""
    one = trace.recipient
    if not is_marked(one):
        start = f"something later than {trace.ancestor.base}" if trace.ancestor else "one start"
        return f", or both from {start}"
    if one.verdict != "match":
        return "; whose copy it was can't be told"
    names = [each.name for each in one.colluders] or [str(one.name)]
    return f", out of the copy of {names[0]}" if len(names) == 1 else f", out of the copies of {', '.join(names)}"


def _head(found: Replayed) -> str:
    trace = found.trace
    lineage, recipient = trace.lineage, trace.recipient
    tallies = {"verdict": (_COLORS[trace.verdict], trace.verdict.replace("_", " "))}
    if lineage is not None:
        in_place = sum(1 for one, other, _ in lineage.layer_map if one == other)
        tallies |= {
            f"p, {lineage.p_kind}, by {lineage.method}": ("none", chance(lineage.log10_p)),
            "layers in their places": ("none", f"{in_place} of {len(drawing.layers_of(lineage)[0])}"),
            "checkpoints opened": ("none", f"{trace.opened:,} of {trace.registered:,}"),
        }
    if recipient.candidates:
        tallies["copies compared"] = ("none", str(recipient.candidates))
    said = (
        f"<p class='sentence'>{safe(sentence(found))}</p>\n"
        f"<p class='verdict'>{safe(trace.reason)} <span class='made'>{safe(moment(found.said.made))}</span></p>"
    )
    return header(_title(found), said, tallies)


def _numbers(trace: Trace, tested: LineageFound | None) -> str:
    """Return every p-value of a trace, each with its kind, method, correction and assumption."""
    rows: list[str] = []
    if trace.lineage is not None and tested is not None:
        rows += _lineage_rows(tested)
    if trace.ancestor is not None:
        one = trace.ancestor
        among = (
            f"{count(one.tried, 'related checkpoint')}; the base that speaks least for us; rank among {one.siblings}"
            " pairs of others' fine-tunes"
        )
        rows.append(
            row(
                "It holds our changes",
                chance(one.log10_p),
                "calibrated",
                "differences from the public base",
                among,
                ASSUMPTIONS["differences"],
            )
        )
    rows += _mark_rows(trace.recipient)
    heads = ["What", "p", "Kind", "Method", "Corrected for", "Assumes"]
    kinds = [f"{kind}: {meaning}" for kind, meaning in _KINDS.items()]
    return table(heads, rows, caption="p-values: the chance of as much, if the suspect were unrelated") + items(kinds)


def _lineage_rows(one: LineageFound) -> list[str]:
    exact = one.p_kind == "exact"
    tests = f"{len(EXACT)} exact tests" if exact else f"{len(MATCHINGS)} matchings"
    corrected = f"{tests}, {count(one.tried, 'checkpoint')}" + (", the choice of layers" if exact else "")
    rows = [
        row("It is related to the checkpoint", chance(one.log10_p), one.p_kind, one.method, corrected, one.assumption)
    ]
    if one.log10_tail is not None:
        beyond = f"{one.pairs} unrelated pairs, whose largest effect is {one.largest:.3f}; here {one.effect:.3f}"
        rows.append(row("The same, by the tail", chance(one.log10_tail), "extrapolated", one.method, corrected, beyond))
    return rows


def _mark_rows(one: RecipientFound) -> list[str]:
    if not one.candidates:
        return []
    mark, copies = ASSUMPTIONS["mark"], f"{count(one.tried, 'copy')} ever issued, rounds of looking, readings"
    rows = [
        row(
            "It carries the checkpoint's mark",
            chance(one.checkpoint_log10_p),
            "exact",
            "mark",
            "readings and checkpoint versions",
            mark,
        )
    ]
    named = [(each.name, each.log10_p) for each in one.colluders]
    named = named or [(one.name or "nobody: the best fit", one.log10_p)]
    return rows + [row(f"It carries the mark of {name}", chance(p), "exact", "mark", copies, mark) for name, p in named]


def _tests(found: LineageFound) -> str:
    rows: list[str] = []
    for one in found.tests:
        alone = judge((one,), null_bank(), tried=found.tried)
        outcome = {"yes": "related", "doubt": "more than chance", "no": "nothing"}[alone.related]
        rows.append(
            row(
                _TESTS[one.method],
                one.method,
                f"{one.effect:.4f}",
                _counted(one),
                chance(_own(one)),
                chance(alone.log10_p),
                alone.p_kind,
                outcome,
            )
        )
    heads = ["Outcome", "Name", "Effect", "Hits", "p alone", "p corrected", "Kind", "It found"]
    more = "none is made any more once one of them found half of all units"
    if found.tests[0].method == "adapter":
        more = "of an adapter alone there is no other"
    return table(heads, rows, caption=f"{count(len(found.tests), 'test')}; {more}")


def _counted(one: Outcome) -> str:
    """Return how much of what was sampled fits; of an adapter, what its ranks are among."""
    if one.method == "adapter":
        return f"{count(len(one.ranks), 'rank')} among {one.of} shuffles"
    return f"{one.hits:,} of {one.of:,}" if one.method in EXACT else "-"


def _own(one: Outcome) -> float:
    """Return a test's own p-value: a matching has none but its rank, before corrections."""
    if one.method in EXACT:
        return one.log10_p
    return calibrated(effects(null_bank(), one.method), one.effect).log10_p


def _layers(found: LineageFound) -> str:
    if not found.layer_map:
        return "<p>No layer of the suspect comes from the checkpoint.</p>"
    theirs, ours = drawing.layers_of(found)
    homes = {one: (other, fraction) for one, other, fraction in found.layer_map}
    rows = [
        row(
            number,
            homes[number][0] if number in homes else "elsewhere",
            f"{homes[number][1]:.1%}" if number in homes else "-",
        )
        for number in theirs
    ]
    left_out = sorted(set(ours) - {other for other, _ in homes.values()})
    words = f"The checkpoint's layers that are nowhere in it: {', '.join(map(str, left_out)) or 'none'}."
    heads = ["Layer of the suspect", "Layer of the checkpoint", "Of its sampled units"]
    return drawing.layer_map(found) + table(heads, rows, caption=words, dense=True)


def _recipient(one: RecipientFound, found: Replayed) -> str:
    if not one.candidates:
        return ""
    named = list(
        zip(
            [(each.name, each.copy, each.log10_p) for each in one.colluders]
            or ([(one.name, one.copy, one.log10_p)] if one.verdict == "match" else []),
            found.said.figures.commitments,
            strict=False,
        )
    )
    rows = [row(name, copy, chance(p), commitment) for (name, copy, p), commitment in named]
    rest = one.scores[len(named) :]
    best = f"Of the {len(rest)} others the best fit has p = {chance(rest[0])}." if rest else "There are no others."
    shown = (
        "The codes are shown in the report, and were checked."
        if found.looked.marks
        else ("The codes are not shown in the report: only whoever holds the secrets of marks can read them again.")
    )
    heads = ["Named", "Copy", "p", "Commitment, in the ledger since the copy was issued"]
    return drawing.scores(one) + table(heads, rows, caption=f"{best} {shown}")


def _base(trace: Trace) -> str:
    one = trace.ancestor
    if one is None:
        return ""
    words = {
        "ours": "The suspect holds what our checkpoint changed.",
        "base_only": "The suspect does not hold what our checkpoint changed.",
        "unclear": "Whether the suspect holds what our checkpoint changed can't be told.",
    }[one.relation]
    rows = [
        row("Slope of its change on ours", f"{one.slope:.3f}", "1 for whatever was made from ours"),
        row(
            "Scatter of the slopes over tensors",
            f"{one.scatter:.3f}",
            "0 for whatever was made from ours, but for noise",
        ),
        row("Scatter that noise alone would cause", f"{one.noise:.3f}", "what the scatter is compared with"),
        row(
            "Cosine of the changes",
            f"{one.cosine:.3f}",
            "high for anybody who trained on like data: it decides nothing",
        ),
        row("Tensors", one.tensors, "in which both changes could be compared"),
    ]
    return f"<p>{safe(words)}</p>" + table(["Figure", "Value", "Means"], rows, caption=f"Differences from {one.base}")


def _derivation(found: Replayed) -> str:
    trace, drawn = found.trace, found.said.figures.evidence.histogram
    rows = [row(_STEPS.get(one.kind, one.kind.replace("_", " ")), one.detail, one.evidence) for one in trace.derivation]
    body = table(["Step", "Detail", "Evidence"], rows, caption="Steps, as far as they could be told apart")
    if drawn is None:
        return body
    note = f"Bars: the differences of {sum(drawn.counts):,} weights. Line: a Gaussian of the same spread."
    return f"{body}<h3>The differences</h3><p class='note'>{safe(note)}</p>{drawing.histogram(drawn)}"


def _record(found: Replayed, *, vkey: str, report: str) -> str:
    said, figures = found.said, found.said.figures
    some = [
        ("suspect", said.file),
        ("its SHA-256", figures.suspect),
        ("traced by", said.tracer.name),
        ("who signs with the key", said.tracer.keys.fingerprint()),
        ("null bank", figures.bank),
    ]
    if figures.checkpoint is not None:
        one = figures.checkpoint
        some += [("checkpoint", f"{one.name}, version {one.version}"), ("its manifest", one.manifest)]
        some.append(("its weights, by their tensors' digests", one.weights))
    some += [(f"public base {base.name}, by its tensors' digests", base.digest) for base in figures.bases]
    some += [] if figures.bases else [("public bases", "none was registered")]
    rows = [
        row(one.index, one.event.action, one.event.object, one.event.who, moment(one.event.at)) for one in found.entries
    ]
    entries = table(
        ["Entry", "Action", "Object", "Who", "When, by the home's clock"],
        rows,
        caption="Of the ledger; their proofs are in the report",
    )
    words = ["strongroom", "lineage", "replay", report, "--vkey", vkey, "--suspect", said.file]
    note = "Anybody can, offline; with the checkpoint's own files (--against) the tests themselves are made again."
    return (
        f"{pairs(some)}<h3>Ledger</h3>{entries}<h3>To make the verdict again</h3><p class='note'>{note}</p>"
        f"<pre tabindex='0'>{safe(shlex.join(words))}</pre>"
    )
