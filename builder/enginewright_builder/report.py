"""What a build tells about itself: plain values for the manifest, made from what each part found. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from enginewright_builder.measuring import Accuracy, Latency
from enginewright_builder.passes import PassReport
from enginewright_builder.tuning.allowance import NO_TIME
from enginewright_builder.tuning.problems import Chosen
from enginewright_builder.tuning.tune import Trial, Tuned
from enginewright_runtime.plan import records
from enginewright_runtime.plan.manifest import Arena
from enginewright_runtime.plan.request import Verdict

_MOST_RIVALS = 6  # of each problem, the fastest first
_MOST_DROPPED = 40  # of each problem, beside those
_MOST_LINES = 200  # of details a pass: a manifest stays a text that a person can read


@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduleFacts:
    """What happened to one schedule. `shapes` is in words."""

    shapes: str
    layers_before: int
    layers_after: int
    kinds: Mapping[str, int]
    passes: Sequence[PassReport]
    checked_with: str
    arena: Arena | None
    tuned: Tuned
    latency: Latency | None = None
    chosen: Sequence[Chosen] = ()


def of(
    *,
    schedules: Iterable[ScheduleFacts],
    notes: Iterable[str],
    verdicts: Iterable[Verdict],
    accuracy: Accuracy | None,
    weights_bytes: int,
) -> dict[str, Any]:
    """The report as it stands in the manifest; `weights_bytes` is what all schedules share."""
    report: dict[str, Any] = {
        "notes": list(notes),
        "schedules": [_schedule(facts) for facts in schedules],
        "gates": [records.to_json(verdict) for verdict in verdicts],
        "weights_bytes": weights_bytes,
    }
    if accuracy is not None:
        report["accuracy"] = records.to_json(accuracy)
    return report


def cut(schedules: Iterable[ScheduleFacts]) -> list[str]:
    """What the time budget left untried, a sentence a schedule."""
    said = []
    for facts in schedules:
        dropped = [each.dropped for each in facts.tuned.trials]
        dropped += [rival.dropped for each in facts.chosen for rival in each.rivals]
        if count := dropped.count(NO_TIME):
            said.append(
                f"Time ran out for {facts.shapes}: {count} of the candidates were not tried, and the best of the "
                "others was taken; give a larger --budget or another --effort (in a manifest, build.deadline or "
                "effort)."
            )
    return said


def _schedule(facts: ScheduleFacts) -> dict[str, Any]:
    tuned = facts.tuned
    told: dict[str, Any] = {
        "shapes": facts.shapes,
        "layers_before": facts.layers_before,
        "layers_after": facts.layers_after,
        "layer_kinds": dict(facts.kinds),
        "passes": [_pass(each) for each in facts.passes],
        "checked_with": facts.checked_with,
        "variant": str(tuned.variant),
        "tactic": tuned.tactic,
        "why": tuned.why,
        "candidates": [_trial(each) for each in tuned.trials],
    }
    if facts.arena is not None:
        told["arena"] = {
            "bytes": facts.arena.bytes,
            "sum_of_tensors": facts.arena.sum_of_tensors,
            "lower_bound": facts.arena.lower_bound,
        }
        if not facts.chosen:
            told["arena"]["note"] = (
                "informative on the CPU: ONNX Runtime places the tensors inside a host segment itself"
            )
    if facts.chosen:
        told["tactics"] = [_chosen(each) for each in facts.chosen]
    if facts.latency is not None:
        told["latency_ms"] = {
            "p50": round(facts.latency.p50, 4),
            "p90": round(facts.latency.p90, 4),
            "p99": round(facts.latency.p99, 4),
            "samples": facts.latency.samples,
        }
    return told


def _pass(each: PassReport) -> dict[str, Any]:
    told: dict[str, Any] = {"name": each.name, "changed": each.changed}
    for key, lines in (("details", each.details), ("declined", each.declined)):
        if lines:
            more = len(lines) - _MOST_LINES
            told[key] = [*lines[:_MOST_LINES], *([f"and {more} more"] if more > 0 else [])]
    return told


def _chosen(each: Chosen) -> dict[str, Any]:
    """With the fastest rivals, and all that failed or were wrong, by name."""
    right = [rival for rival in each.rivals if not rival.dropped]
    bad = [rival for rival in each.rivals if rival.dropped and rival.dropped != NO_TIME]
    kept = records.to_json([*right[:_MOST_RIVALS], *bad[:_MOST_DROPPED]])
    more = max(0, len(bad) - _MOST_DROPPED)
    return {**records.to_json(each), "rivals": kept, **({"more_dropped": more} if more else {})}


def _trial(each: Trial) -> dict[str, Any]:
    told: dict[str, Any] = {"name": each.name, "reason": each.reason, "error": float(f"{each.error:.3g}")}
    if each.dropped:
        return {**told, "dropped": each.dropped}
    told["rough_ms"] = round(each.rough_ms, 4)
    if each.samples:
        told |= {"median_ms": round(each.median_ms, 4), "p99_ms": round(each.p99_ms, 4), "samples": each.samples}
    return {**told, "chosen": True} if each.chosen else told
