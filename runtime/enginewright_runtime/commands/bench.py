"""`enginewright bench`: how fast a plan is on this machine."""

from pathlib import Path
from typing import Annotated

import typer


def bench(
    plan: Annotated[Path, typer.Argument(help="The plan to time.")],
    seconds: Annotated[
        float, typer.Option(min=0.01, max=3600, help="How long to measure each schedule, in seconds.")
    ] = 3.0,
    threads: Annotated[
        int | None,
        typer.Option(
            min=1, help="At most so many processors for one inference. Default: all there are.", show_default=False
        ),
    ] = None,
    concurrency: Annotated[
        int, typer.Option(min=1, help="Inferences at once, each on a thread of its own, as that many clients would.")
    ] = 1,
    inputs: Annotated[
        list[str] | None,
        typer.Option(
            "--input",
            "-i",
            metavar="NAME=X.npy",
            help="Values to run on, once for each input, or X.npz with all of them: only the schedule of their shapes "
            "is timed. Default: random values, for every schedule.",
            show_default=False,
        ),
    ] = None,
    allow_plugins: Annotated[
        bool, typer.Option("--allow-plugins", help="Let the plan run Python that it carries (its plugins).")
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the figures as one JSON object on standard output.")
    ] = False,
) -> None:
    """Time a plan: p50, p90 and p99 of one inference in milliseconds, and inferences a second.

    On a GPU also joules an inference and clocks, and whether the GPU was throttled meanwhile.

    Each schedule is warmed up, then the schedules take turns in short rounds, so that a machine that changes its speed
    does so for all of them. The plan's golden inputs are replayed first: a wrong engine has no speed.

    Examples:
        enginewright bench model.plan
        enginewright bench model.plan --seconds 10 --threads 1 --concurrency 4
        enginewright bench model.plan --input image=cat.npy --json
    """
    import json
    from contextlib import nullcontext

    from enginewright_runtime.commands import arrays, gpu_figures, timing
    from enginewright_runtime.engine import available
    from enginewright_runtime.engine.cuda.nvml import Watch
    from enginewright_runtime.engine.engine import Engine
    from enginewright_runtime.plan import records

    with Engine(plan, threads=threads, contexts=concurrency, allow_plugins=allow_plugins) as engine:
        typer.echo("Replaying the golden inputs …", err=True)
        engine.replay_goldens()
        given = [arrays.read_inputs(inputs, engine.inputs)] if inputs else []
        feeds = given or [arrays.random_inputs(schedule.inputs) for schedule in engine.manifest.schedules]
        watches = [Watch() for _ in feeds]
        typer.echo(f"Timing {len(feeds)} of {len(engine.manifest.schedules)} schedules, {seconds:g} s each …", err=True)
        with gpu_figures.watching(engine.manifest.target, watches) as watched:
            results = timing.measure(
                engine.infer, feeds, seconds=seconds, concurrency=concurrency, watched=watched or nullcontext
            )
    machine = available.describe(engine.manifest.target)
    if as_json:
        told = {
            "plan": str(plan),
            "digest": engine.manifest.digest,
            "machine": records.to_json(machine),
            "concurrency": concurrency,
            "schedules": [
                result.to_json() | gpu_figures.to_json(watch, result)
                for watch, result in zip(watches, results, strict=True)
            ],
        }
        typer.echo(json.dumps(told, ensure_ascii=False))
        return
    driver = f"driver {machine.driver}" if machine.driver else ""
    versions = ", ".join(f"{name} {version}" for name, version in machine.libraries.items())
    known = (machine.product or machine.architecture, f"{machine.processors} processors", driver, versions)
    typer.echo(", ".join(each for each in known if each))
    typer.echo(f"{plan.name}: {concurrency} at once, {seconds:g} s each\n")
    for line in (*timing.table(results), *gpu_figures.lines(watches, results)):
        typer.echo(line)
