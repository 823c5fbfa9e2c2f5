"""`enginewright export`: any model that can be read, before or after the passes, as ONNX or as text.

Light to import, for `enginewright --help` lists it: what needs ONNX is imported when it runs.
"""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from enginewright_builder import options
from enginewright_runtime.errors import UsageError

if TYPE_CHECKING:
    from enginewright_builder.network.network import Network

PASSES = ("none", "cpu", "cuda")


def export(
    model: Annotated[Path, typer.Argument(help="The model, or a network as text (.txt).")],
    output: Annotated[
        Path, typer.Option("-o", help="Where it goes: .onnx, or .txt with its weights beside it as .npz.")
    ],
    passes: Annotated[
        str, typer.Option(metavar="KIND", help="Which passes to apply first: none, cpu or cuda.")
    ] = "none",
    shape: options.Shapes = None,
    precision: Annotated[
        str, typer.Option(metavar="P", help="With --passes cuda: the arithmetic to make it for, as fp16.")
    ] = "fp32",
    outputs: options.Outputs = None,
    prototxt: options.Prototxt = None,
    plugin: options.Plugins = None,
    as_json: options.Json = False,
) -> None:
    """Write a network as ONNX that ONNX Runtime runs, or as text that a person reviews.

    After the passes it is what a plan runs: our own layers by their names in text, expanded into ONNX's in a file of
    ONNX.

    Examples:
        enginewright export model.pb -o model.onnx
        enginewright export model.onnx -o fused.txt --passes cuda --precision fp16 --shape image=1x3x224x224
        enginewright export reviewed.txt -o reviewed.onnx
    """
    from enginewright_builder import progress
    from enginewright_builder.network import export as files
    from enginewright_builder.network import layers

    if output.suffix not in (".onnx", ".txt"):
        raise UsageError(f"-o must end in .onnx or .txt, got {str(output)!r}.")
    shown = progress.on_standard_error()
    with shown.phase("Reading the network"):
        network = _read(model, prototxt, tuple(outputs or ()), plugin or [])
    before = layers.count(network)
    with shown.phase("Applying the passes"):
        network = _passed(network, passes, precision, shape or [])
    written = (files.save if output.suffix == ".onnx" else files.save_text)(network, output)
    told = {"layers_before": before, "layers": layers.count(network), "files": [str(path) for path in written]}
    if as_json:
        typer.echo(json.dumps(told, ensure_ascii=False))
    else:
        typer.echo(f"{' and '.join(map(str, written))}: {told['layers']} layers, of {before} in the model.")


def _read(model: Path, prototxt: Path | None, outputs: tuple[str, ...], plugins: list[Path]) -> "Network":
    from enginewright_builder import command_line
    from enginewright_builder.importers import table
    from enginewright_builder.network import export as files
    from enginewright_builder.plugins import collection

    if model.suffix == ".txt":
        return files.load_text(model)
    kind = command_line.format_of(model)
    return table.read(kind, model, companion=prototxt, outputs=outputs, plugins=collection.load(plugins))


def _passed(network: "Network", kind: str, word: str, shape: list[str]) -> "Network":
    from enginewright_builder import command_line
    from enginewright_builder import passes as pipelines
    from enginewright_builder.network import specialize
    from enginewright_runtime.plan.recipe import Precision

    if kind not in PASSES:
        raise UsageError(f"--passes must be one of {', '.join(PASSES)}, got {kind!r}.")
    schedules = command_line.read_shapes(shape)
    if len(schedules) > 1:
        raise UsageError("--shape names an input twice: an export is of one shape.")
    precision = command_line.one_of(Precision, word, "--precision")
    if schedules:
        network = specialize.with_shapes(network, schedules[0])
    if kind != "none":
        network = network.copy()
        pipelines.run(network, pipelines.PIPELINE if kind == "cpu" else pipelines.gpu_pipeline(precision))
    return network
