"""What a person sees at the end of a command: one short table on standard output."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from enginewright_builder.comparison import Comparison
from enginewright_runtime.commands.inspection import size
from enginewright_runtime.plan.request import BuildResult


def show(result: BuildResult, report: Mapping[str, Any], *, plan: Path | None) -> None:
    """The result of a build; `report` is the manifest's, empty where there is none at hand."""
    console = Console(soft_wrap=True)
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    table.add_column(style="bold", no_wrap=True)
    table.add_column()
    for schedule in report.get("schedules", []):
        table.add_row("shape", schedule["shapes"])
        table.add_row("  layers", f"{schedule['layers_before']} -> {schedule['layers_after']}")
        table.add_row("  tactic", f"{schedule['variant']}, {schedule['tactic']} ({schedule['why']})")
        if "latency_ms" in schedule:
            latency = schedule["latency_ms"]
            table.add_row("  latency", f"p50 {latency['p50']:.3g} ms, p99 {latency['p99']:.3g} ms")
        if "arena" in schedule:
            arena = schedule["arena"]
            table.add_row("  arena", f"{size(arena['bytes'])} for {size(arena['sum_of_tensors'])} of tensors")
    for verdict in result.gates:
        table.add_row("gate", f"{'passed' if verdict.passed else 'FAILED'}: {verdict.message}")
    table.add_row("plan", f"{plan or 'stored'}, {size(result.plan_bytes)}, sha256 {result.plan_sha256[:16]}…")
    table.add_row("took", f"{result.seconds:.1f} s")
    console.print(result.message, highlight=False, markup=False)
    console.print(table, highlight=False)
    if plan is not None:
        console.print(
            f"Next: enginewright bench {plan}   or   enginewright serve {plan}", highlight=False, markup=False
        )


def show_comparison(found: Comparison) -> None:
    """One row an output."""
    console = Console()
    table = Table("output", "worst absolute", "worst relative", "cosine", "top-1", "within bound", box=None)
    for each in found.differences:
        table.add_row(
            each.output,
            f"{each.absolute:.3g}",
            f"{each.relative:.3g}",
            f"{each.cosine:.6f}",
            f"{each.top1:.1%}",
            "no" if each.reason else "yes",
        )
    console.print(table, highlight=False)
    console.print(f"{found.feeds} feeds of {found.source}, bound of {found.arithmetic}", highlight=False, markup=False)
