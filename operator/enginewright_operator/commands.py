"""`enginewright explain` and `enginewright up`: words in, a result out; the work is in local/."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from enginewright_operator import availability
from enginewright_operator.local import cluster, manifests, orders
from enginewright_operator.local import up as running
from enginewright_operator.local.explain import Row, nodes_in_words, recipe_in_words, unknown

File = Annotated[Path, typer.Option("--file", "-f", help="The manifest: YAML with one InferenceEngine.")]
Folder = Annotated[
    Path | None,
    typer.Option(
        "--storage",
        help="Folder for plans (default: $XDG_DATA_HOME or ~/.local/share, enginewright).",
        show_default=False,
    ),
]
Json = Annotated[bool, typer.Option("--json", help="One JSON object on standard output.")]


def explain(file: File, storage: Folder = None, as_json: Json = False) -> None:
    """Say what a manifest would build: each target's recipe, plan and nodes, and why. Builds nothing.

    With a kubeconfig whose cluster answers, the matching nodes are named; otherwise the rule that chooses them. A
    manifest without storage, or with --storage, is looked up where `enginewright up` keeps plans.

    Examples:
        enginewright explain -f manifest.yaml
        enginewright explain -f manifest.yaml --json
    """
    given = manifests.read(file)
    seen = cluster.look(given.engine.metadata)
    given = replace(given, gpu_classes={**seen.gpu_classes, **given.gpu_classes})
    notes = (storage or orders.default_folder()).expanduser()
    own = given.engine.spec.storage if storage is None else None
    place = own or orders.local_storage(given, notes)
    rows = []
    for target in given.engine.spec.targets:
        gpu_class = given.gpu_classes.get(target.gpu_class)
        if gpu_class is None:
            rows.append(unknown(given, target))
            continue
        held = seen.products.get(target.gpu_class, "")
        ordered = orders.order(given, target, place, notes=notes, nodes=seen.nodes, held=held)
        rows.append(
            Row(
                target=target,
                replicas=given.engine.spec.replicas_on(target),
                order=ordered,
                nodes=nodes_in_words(ordered.gpu_class.spec, seen.nodes),
                gpu=availability.of_target(gpu_class, seen.nodes),
            )
        )
    if as_json:
        told = {"engine": given.engine.metadata.name, "cluster": seen.nodes is not None, "clusterMessage": seen.why_not}
        typer.echo(json.dumps(told | {"targets": [row.to_json() for row in rows]}, ensure_ascii=False))
        return
    console = Console()
    for row in rows:
        _show(row, console)
    if seen.nodes is None:
        typer.echo(f"(No cluster was asked: {seen.why_not}.)")


def up(
    file: File,
    command: Annotated[
        list[str] | None,
        typer.Argument(
            help="After --: a command to run against the server, with ENGINEWRIGHT_URL and ENGINEWRIGHT_MODEL set.",
            show_default=False,
        ),
    ] = None,
    storage: Folder = None,
    port: Annotated[
        int | None,
        typer.Option(min=1, max=65535, help="Port of the server (default: 8000 or a free one).", show_default=False),
    ] = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Build again even if the plan is there.")] = False,
    as_json: Json = False,
) -> int:
    """Run a manifest on this machine: build its plans, prove them, serve them. No cluster is needed.

    What runs is what the operator would run, as processes. Without a command it serves until Ctrl-C; with one it
    ends with that command's exit code.

    Examples:
        enginewright up -f manifest.yaml
        enginewright up -f manifest.yaml --port 9000 --fresh
        enginewright up -f manifest.yaml -- python ask.py
    """
    wishes = running.Wishes(file=file, storage=storage or orders.default_folder(), port=port, fresh=fresh)
    with running.Up(wishes, Console(stderr=True)) as engine:
        engine.start()
        if command:
            code = engine.run(command, to_stderr=as_json)
            if as_json:
                typer.echo(json.dumps(engine.to_json() | {"exitCode": code}, ensure_ascii=False))
            return code
        return engine.wait(lambda: _announce(engine, as_json=as_json))


def _announce(engine: running.Up, *, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(engine.to_json(), ensure_ascii=False))
    else:
        typer.echo(f"\nTry it:\n  curl {engine.served[0].server.url}/v2/models/{engine.model}\n", err=True)


def _show(row: Row, console: Console) -> None:
    replicas = f"{row.replicas} replica{'s' * (row.replicas != 1)}"
    console.print(f"[bold]{row.target.gpu_class}[/]  {replicas}", highlight=False)
    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")  # a digest or URI that is cut is of no use
    lines = [("nodes", row.nodes), *([("GPU", row.gpu.message)] if row.gpu else [])]
    if row.order is not None:
        state = "is there already: nothing is built" if row.order.exists else f"is to be built. {row.order.why}"
        lines = [
            *recipe_in_words(row.order.recipe),
            *([("choice", row.order.choice)] if row.order.choice else []),
            *lines,
            ("digest", row.order.digest),
            ("plan", row.order.plan.spec.plan_uri),
            ("", state),
        ]
    for name, value in lines:
        table.add_row(f"  {name}", escape(value))
    console.print(table, highlight=False)
