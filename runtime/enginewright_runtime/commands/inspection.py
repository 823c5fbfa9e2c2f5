"""A manifest as tables for a terminal.

The builder's report inside it is free-form: whatever part is absent or of another shape is left out, and `inspect
--json` still has it.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.markup import escape
from rich.padding import Padding
from rich.table import Table

from enginewright_runtime.plan.manifest import Binding, Manifest, Schedule
from enginewright_runtime.plan.target import Target

UNTOUCHED = "untouched"  # the variant of a schedule that no pass has changed
FEW = 8  # details of one pass, blobs: past it a person asks for --all


def show(
    manifest: Manifest, path: Path, *, signers: Sequence[str], all_details: bool, console: Console | None = None
) -> None:
    """Print everything a person may want to know: what it is and how good it is first, how it came about after that.

    `signers` are the ids of the keys whose signatures the plan bears; nobody has verified them here.
    """
    console = console or Console(highlight=False, soft_wrap=False)
    console.print(f"[bold]{escape(path.name)}[/]  {size(path.stat().st_size)}")
    console.print(_facts(manifest, signers))
    reports = [_mapping(each) for each in _list(manifest.report.get("schedules"))]
    reports += [{}] * (len(manifest.schedules) - len(reports))
    for index, (schedule, report) in enumerate(zip(manifest.schedules, reports, strict=False)):
        console.print(f"\n[bold]Schedule {index}[/]")
        console.print(_indented(_schedule(schedule, report)))
    for title, lines in (("Gates", _gates(manifest)), ("Notes", _texts(manifest.report.get("notes")))):
        if lines:
            console.print(f"\n[bold]{title}[/]")
            console.print(_lines([escape(line) for line in lines]))
    for index, (schedule, report) in enumerate(zip(manifest.schedules, reports, strict=False)):
        console.print(f"\n[bold]How schedule {index} came about[/]")
        console.print(_indented(_making(schedule, report, all_details=all_details)))
        passes = [_mapping(each) for each in _list(report.get("passes"))]
        if index and passes and passes == [_mapping(each) for each in _list(reports[index - 1].get("passes"))]:
            console.print("\n  passes: the same as above")
        else:
            if passes and report.get("variant") == UNTOUCHED:
                console.print("\n  These passes made the other variant, which was not chosen:")
            for part in _passes(passes, all_details=all_details):
                console.print(_indented(part))
    console.print(f"\n[bold]Blobs[/]  {len(manifest.blobs)}, {size(sum(b.bytes for b in manifest.blobs.values()))}")
    console.print(_blobs(manifest, all_details=all_details))


def size(count: int) -> str:
    """Bytes in words: 1,234 bytes, 12.3 KiB, 4.5 MiB, 1 GiB."""
    if count < 1024:
        return f"{count:,} bytes"
    power = next((power for power in (1, 2, 3) if count / 1024**power < 1023.95), 4)  # 1024.0 of one is 1 of the next
    words = f"{count / 1024**power:,.1f}".removesuffix(".0")
    return f"{words} {('KiB', 'MiB', 'GiB', 'TiB')[power - 1]}"


def _facts(manifest: Manifest, signers: Sequence[str]) -> Table:
    recipe = manifest.recipe
    identity, _, model = recipe.model.partition(":")
    table = _grid()
    # Labels are short and sha256s stand alone, so that they fit into 80 columns and can be copied.
    table.add_row("digest", manifest.digest)
    table.add_row(f"model {escape(identity)}", escape(model))
    table.add_row("target", escape(_target(manifest.target)))
    allowed = f"{', '.join(recipe.precisions)}; effort {recipe.effort}; workspace {size(recipe.workspace)}"
    table.add_row("built with", f"{allowed}; builder {escape(manifest.builder)}; from {recipe.format}")
    if recipe.calibration:
        table.add_row("calibration", escape(f"{recipe.calibration_samples} samples of {recipe.calibration}"))
    for signer in signers:
        table.add_row("signed by", f"{escape(signer)} (enginewright verify checks it)")
    table.add_row("goldens", f"{len(manifest.goldens)}, replayed before the engine is ready")
    if isinstance(weights := manifest.report.get("weights_bytes"), int):
        table.add_row("weights", f"{size(weights)}, shared by all schedules")
    if accuracy := _mapping(manifest.report.get("accuracy")):
        table.add_row("accuracy", escape(_words(accuracy)))
    return table


def _target(target: Target) -> str:
    parts = [target.kind, target.architecture, target.product, target.compute_capability, target.mig_profile]
    libraries = [f"{name} {version}" for name, version in sorted(target.libraries.items())]
    counted = [f"{target.processors} processors"] if target.processors else []
    return ", ".join([*(part for part in parts if part), *counted, *libraries])


def _schedule(schedule: Schedule, report: Mapping[str, Any]) -> Table:
    table = _grid()
    table.add_row("inputs", escape(", ".join(_binding(binding) for binding in schedule.inputs) or "none"))
    table.add_row("outputs", escape(", ".join(_binding(binding) for binding in schedule.outputs) or "none"))
    if "layers_before" in report and "layers_after" in report:
        table.add_row("layers", f"{report['layers_before']} before, [bold]{report['layers_after']}[/] after")
    if latency := _mapping(report.get("latency_ms")):
        times = {name: value for name, value in latency.items() if name != "samples"}
        runs = f" over {latency['samples']} runs" if "samples" in latency else ""
        table.add_row("latency", escape(f"{_words(times)} ms, measured{runs} when it was built"))
    if arena := schedule.arena:
        saved = f"{size(arena.sum_of_tensors)} without sharing, at least {size(arena.lower_bound)}"
        table.add_row("arena", f"{size(arena.bytes)} ({saved})")
    if "tactic" in report:
        named = ", ".join(str(report[key]) for key in ("variant", "tactic") if report.get(key))
        table.add_row("tactic", escape(f"{named}: {report.get('why', '')}"))
    return table


def _making(schedule: Schedule, report: Mapping[str, Any], *, all_details: bool) -> Group:
    table = _grid()
    for segment in schedule.segments:
        options = {name: value for name, value in segment.options.items() if name not in ("weights", "blobs")}
        kept = len(_mapping(segment.options.get("weights")))
        held = f", {kept} weights in blobs" if kept else ""
        if names := _list(segment.options.get("blobs")):
            held = f"{len(names)} weights and kernels in blobs"
        table.add_row("segment", escape(f"{segment.executor} {segment.blob} ({_words(options)}{held})"))
    if kinds := _mapping(report.get("layer_kinds")):
        table.add_row("layers", escape(_words(kinds)))
    if chosen := [_mapping(each) for each in _list(report.get("tactics"))]:
        return Group(table, "", _chosen(chosen), *_dropped(chosen, all_details=all_details))
    candidates = [_mapping(each) for each in _list(report.get("candidates"))]
    return Group(table, "", _candidates(candidates)) if candidates else Group(table)


def _chosen(problems: Sequence[Mapping[str, Any]]) -> Table:
    """What runs each layer of a device segment; equal layers share a line."""
    table = _table("layers", "tactic", "us alone", "error", "next best")
    for each in problems:
        layers = _texts(each.get("layers"))
        more = f" and {len(layers) - 1} like it" if len(layers) > 1 else ""
        rivals = [_mapping(rival) for rival in _list(each.get("rivals"))]
        right = [rival for rival in rivals if not rival.get("dropped")]
        wrong = sum(bool(rival.get("dropped")) for rival in rivals) + int(each.get("more_dropped") or 0)
        best = f"{right[0].get('tactic', '')} {right[0].get('microseconds', '')}" if right else "none"
        lost = f", {wrong} dropped" if wrong else ""
        name = f"{each.get('tactic', '')}: {each.get('name', '')}"
        cells = [f"{layers[0] if layers else ''}{more}", name, each.get("microseconds", ""), each.get("error", "")]
        table.add_row(*(escape(str(cell)) for cell in (*cells, f"{best}{lost}")))
    return table


def _dropped(problems: Sequence[Mapping[str, Any]], *, all_details: bool) -> Iterator[RenderableType]:
    """Which candidates failed or were wrong, for what, and why."""
    lines = []
    for each in problems:
        layers = _texts(each.get("layers"))
        for rival in (_mapping(rival) for rival in _list(each.get("rivals"))):
            if said := rival.get("dropped"):
                name = f"{rival.get('tactic', '')}: {rival.get('name', '')} for {layers[0] if layers else ''}: {said}"
                lines.append(f"[yellow]not[/] {escape(name)}")
    if lines:
        yield f"\n[bold]dropped[/]: {len(lines)} candidates"
        yield _lines(_some(lines, all_details=all_details))


def _candidates(candidates: Sequence[Mapping[str, Any]]) -> Table:
    table = _table("tactic", "median ms", "p99 ms", "error", "")
    for each in candidates:
        chosen = bool(each.get("chosen"))
        # Only what came close was measured with care; "~" marks the few quick runs of the others.
        median = each.get("median_ms", f"~{each['rough_ms']}" if "rough_ms" in each else "")
        verdict = "chosen" if chosen else str(each.get("dropped", ""))
        cells = [each.get("name", ""), median, each.get("p99_ms", ""), each.get("error", ""), verdict]
        table.add_row(*(escape(str(cell)) for cell in cells), style="bold" if chosen else None)
    return table


def _passes(passes: Sequence[Mapping[str, Any]], *, all_details: bool) -> Iterator[RenderableType]:
    for each in passes:
        details, declined = _texts(each.get("details")), _texts(each.get("declined"))
        if not (each.get("changed") or details or declined):
            continue
        yield f"\n[bold]{escape(str(each.get('name', 'pass')))}[/]: {len(details)} done, {len(declined)} declined"
        yield _lines(_some([escape(line) for line in details], all_details=all_details))
        yield _lines(_some([f"[yellow]not[/] {escape(line)}" for line in declined], all_details=all_details))


def _gates(manifest: Manifest) -> list[str]:
    lines = []
    for gate in (_mapping(each) for each in _list(manifest.report.get("gates"))):
        verdict = "passed" if gate.get("passed") else "FAILED"
        name, unit = gate.get("gate", ""), f" {gate['unit']}" if gate.get("unit") else ""
        figures = f"{gate.get('measured')}{unit}, limit {gate.get('limit')}{unit}"
        # The builder's sentence says the same with rounded figures.
        said = str(gate.get("message", "")).removeprefix(f"{name} gate: ")
        lines.append(f"{name} {verdict}: {said or figures}")
    return lines


def _blobs(manifest: Manifest, *, all_details: bool) -> RenderableType:
    listed = list(manifest.blobs.items())
    shown = listed if all_details or len(listed) <= FEW + 1 else listed[:FEW]
    table = _table("name", "size", "sha256")
    for name, blob in shown:
        table.add_row(escape(name), size(blob.bytes), blob.sha256 if all_details else f"{blob.sha256[:12]}…")
    more = len(listed) - len(shown)
    return _indented(Group(table, *([f"… {more} more: --all shows them"] if more else [])))


def _some(lines: Sequence[str], *, all_details: bool) -> list[str]:
    more = len(lines) - FEW
    return list(lines) if all_details or more <= 1 else [*lines[:FEW], f"… {more} more: --all shows them"]


def _lines(lines: Sequence[str]) -> RenderableType:
    """Each line with what wraps of it indented further, so that lines can be told apart."""
    table = Table.grid(padding=(0, 1))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for line in lines:
        table.add_row(" -", line)
    return table


def _indented(part: RenderableType) -> Padding:
    return Padding(part, (0, 0, 0, 2), expand=False)


def _binding(binding: Binding) -> str:
    shape = "of any shape" if binding.shape is None else str(list(binding.shape)).replace("-1", "any")
    kind = "" if binding.container == "tensor" else f" {binding.container}"
    return f"{binding.name} {binding.dtype} {shape}{kind}"


def _words(values: Mapping[str, Any]) -> str:
    rounded = {name: f"{value:.5g}" if isinstance(value, float) else value for name, value in values.items()}
    return ", ".join(f"{name} {value}" for name, value in rounded.items()) or "defaults"


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _list(value: object) -> Sequence[Any]:
    return value if isinstance(value, list | tuple) else []


def _texts(value: object) -> list[str]:
    return [str(line) for line in _list(value)]


def _grid() -> Table:
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    return table


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    for index, column in enumerate(columns):
        table.add_column(column, justify="left" if index in (0, len(columns) - 1) else "right", overflow="fold")
    return table
