"""`enginewright infer`: one inference on files."""

from pathlib import Path
from typing import Annotated, Any

import typer

SHOWN = 8  # values of each output that a person sees; files and --json have them all


def infer(
    plan: Annotated[Path, typer.Argument(help="The plan to run.")],
    inputs: Annotated[
        list[str] | None,
        typer.Option(
            "--input",
            "-i",
            metavar="NAME=X.npy",
            help="An input's values, once for each input; or X.npz with all of them by name, or X.npy alone where "
            "there is one input. Dtype and shape must be the plan's (enginewright inspect shows them).",
            show_default=False,
        ),
    ] = None,
    output_dir: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Write each output there, as NAME.npy.", show_default=False),
    ] = None,
    allow_plugins: Annotated[
        bool, typer.Option("--allow-plugins", help="Let the plan run Python that it carries (its plugins).")
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print all values of the outputs as one JSON object on standard output.")
    ] = False,
) -> None:
    """Run a plan once on arrays from files, and show or write its outputs.

    A person sees the first values of each output; --json and --output-dir have them all.

    Examples:
        enginewright infer model.plan --input image=cat.npy
        enginewright infer model.plan -i ids=ids.npy -i mask=mask.npy
        enginewright infer model.plan --input batch.npz --output-dir answers
    """
    import json

    from enginewright_runtime.commands import arrays
    from enginewright_runtime.engine.engine import Engine

    with Engine(plan, allow_plugins=allow_plugins) as engine:
        outputs = engine.infer(arrays.read_inputs(inputs or [], engine.inputs))
    written = arrays.write_outputs(outputs, output_dir) if output_dir else {}
    if as_json:
        told = {name: {**_told(value), **_at(written.get(name))} for name, value in outputs.items()}
        typer.echo(json.dumps({"outputs": told}, ensure_ascii=False))
        return
    for name, value in outputs.items():
        typer.echo(_line(name, value) + (f"  -> {written[name]}" if name in written else ""))


def _told(value: Any) -> dict[str, Any]:
    import numpy as np

    from enginewright_runtime.engine.values import name_of

    if not isinstance(value, np.ndarray):
        return {"values": [_told(each) for each in value] if value is not None else None}
    # JSON has no NaN and no infinity: those stand as text, everything else as what it is.
    wide = value.astype(np.float64) if value.dtype.kind in "fV" else value
    flat = [each if not isinstance(each, float) or np.isfinite(each) else str(each) for each in wide.ravel().tolist()]
    flat = [str(each) if isinstance(each, complex) else each for each in flat]
    return {"dtype": name_of(value.dtype), "shape": list(value.shape), "data": flat}


def _line(name: str, value: Any) -> str:
    import numpy as np

    from enginewright_runtime.engine.values import name_of

    if not isinstance(value, np.ndarray):
        return f"{name}: {'nothing' if value is None else f'a sequence of {len(value)} tensors'}"
    few = ", ".join(f"{each:.6g}" if value.dtype.kind in "fV" else str(each) for each in value.reshape(-1)[:SHOWN])
    return f"{name}: {name_of(value.dtype)} {list(value.shape)} [{few}{', …' if value.size > SHOWN else ''}]"


def _at(path: Path | None) -> dict[str, str]:
    return {} if path is None else {"file": str(path)}
