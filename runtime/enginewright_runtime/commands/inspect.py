"""`enginewright inspect`: what a plan says about itself, for a person or as JSON."""

from pathlib import Path
from typing import Annotated

import typer


def inspect(
    plan: Annotated[Path, typer.Argument(help="The plan to look into.")],
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the whole manifest as one JSON object on standard output.")
    ] = False,
    all_details: Annotated[
        bool, typer.Option("--all", help="Print every detail of the passes, every tactic, segment and blob.")
    ] = False,
) -> None:
    """Show what a plan is: target, inputs and outputs, layers before and after, fusions, tactics and times, memory.

    Reads the manifest alone: the plan need not be for this machine, and nothing in it is run.

    Examples:
        enginewright inspect model.plan
        enginewright inspect model.plan --all | less
        enginewright inspect model.plan --json | jq .report.gates
    """
    import json

    from enginewright_runtime.commands import inspection
    from enginewright_runtime.plan import records
    from enginewright_runtime.plan.container import PlanFile

    with PlanFile(plan) as file:
        manifest, signers = file.manifest, [signature.key for signature in file.signatures]
        if as_json:
            typer.echo(json.dumps(records.to_json(manifest), indent=2, ensure_ascii=False))
            return
    inspection.show(manifest, plan, signers=signers, all_details=all_details)
