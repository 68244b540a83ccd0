"""A trace in words, and as JSON."""

from __future__ import annotations

from typing import cast

import msgspec

from strongroom.cli.frame import Json
from strongroom.lineage.traced import LineageFound, Trace, limits
from strongroom.wiring.lineage_report import Looked

_READABLE = -6


def document(found: Trace) -> dict[str, Json]:
    """Return a trace as the JSON that ``trace`` and ``compare`` print."""
    whole = cast("dict[str, Json]", msgspec.to_builtins(found))
    lineage = cast("dict[str, Json] | None", whole["lineage"])
    if lineage is not None and found.lineage is not None:
        lineage["tests"] = [
            cast("Json", msgspec.to_builtins(one)) | {"log10_p": one.log10_p}  # type: ignore[operator]
            for one in found.lineage.tests
        ]
    whole["limits"] = [*limits(found)]
    return whole


def words(found: Trace) -> str:
    """Return a trace for people."""
    lines = [f"{found.verdict} {found.checkpoint or ''}".rstrip(), f"  {found.reason}"]
    if found.lineage is not None:
        lines += _lineage(found.lineage, _corrected(found, found.lineage))
    if found.ancestor is not None:
        one = found.ancestor
        lines.append(
            f"  public base {one.base}: slope of its change on ours {one.slope:.2f} (1: made from ours), scatter "
            f"{one.scatter:.2f}, over {one.tensors} tensors; rank p = {chance(one.log10_p)} among {one.siblings} pairs"
            f" of other people's fine-tunes, corrected for {count(one.tried, 'relative')}"
        )
    if found.verdict == "match":
        lines += _recipient(found)
        lines += [f"  {one.kind}: {one.detail} ({one.evidence})" for one in found.derivation]
        lines += [f"  direction: {found.direction}"] if found.direction else []
    return "\n".join(lines)


def _corrected(found: Trace, lineage: LineageFound) -> str:
    """Say what the p-value that a verdict rests on is corrected for."""
    one = found.recipient
    if lineage.method == "mark" and one.log10_p < one.checkpoint_log10_p:
        return f"{count(one.tried, 'copy')} ever issued, rounds of looking and readings"
    if lineage.method == "mark":
        return "readings and versions of the checkpoint"
    if lineage.method == "differences" and found.ancestor is not None:
        return count(found.ancestor.tried, "related checkpoint")
    return f"tests of its kind and {count(lineage.tried, 'checkpoint')}"


def _lineage(found: LineageFound, corrected: str) -> list[str]:
    lines = [f"  p = {chance(found.log10_p)}, {found.p_kind}, by {found.method}; corrected for {corrected}"]
    if found.log10_tail is not None:
        lines.append(
            f"    among {found.pairs} pairs of unrelated models, whose largest effect is {found.largest:.3f};"
            f" extrapolated: {chance(found.log10_tail)}"
        )
    lines.append(f"  effect {found.effect:.3f}: the share of sampled units or lines that fit")
    if found.layer_map:
        same = sum(1 for one, other, _ in found.layer_map if one == other)
        lines.append(f"  {len(found.layer_map)} layers come from the checkpoint, {same} of them in their places")
    if found.assumption:
        lines.append(f"  assumes: {found.assumption}")
    return lines


def _recipient(found: Trace) -> list[str]:
    one = found.recipient
    if one.verdict == "match":
        named = [f"{each.name} (copy {each.copy}): p = {chance(each.log10_p)}" for each in one.colluders]
        named = named or [f"{one.name} (copy {one.copy}): p = {chance(one.log10_p)}"]
        return [f"  recipient: {each}, exact, corrected for {count(one.tried, 'copy')}" for each in named]
    return [f"  recipient: {one.verdict}. {one.reason}"]


def made_again(looked: Looked) -> list[str]:
    """Return what a replay made again, in words."""
    done = ["the verdict and its p-values, from the figures"]
    done += ["that the figures stand in the log, under the tracer's key"] if looked.ledger else []
    done += ["the p-values of the marks"] if looked.marks else []
    done += ["the suspect's digest"] if looked.suspect else []
    return [*done, "the tests themselves, on both files"] if looked.tests else done


def count(number: int, what: str) -> str:
    """Return a number of things."""
    return f"{number:,} {what if number == 1 else what.removesuffix('y') + ('ies' if what.endswith('y') else 's')}"


def chance(log10: float) -> str:
    """Return a chance for people: as a power of ten where it is too small to be read otherwise."""
    return f"{10**log10:.2g}" if log10 > _READABLE else f"10^{log10:.0f}"
