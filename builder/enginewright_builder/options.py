"""The options of `enginewright build`, as its help explains them: units, an example, and what holds without them."""

from pathlib import Path
from typing import Annotated

import typer

Model = Annotated[
    Path | None,
    typer.Argument(
        help="The model: ONNX (.onnx), TensorFlow (a frozen graph, or a SavedModel's .pb) or Caffe (.caffemodel).",
        show_default=False,
    ),
]
Prototxt = Annotated[
    Path | None,
    typer.Option(metavar="X.prototxt", help="The layers of a Caffe model, as deploy.prototxt.", show_default=False),
]
Place = Annotated[
    Path | None,
    typer.Option("--plan", "-o", help="Where the plan goes; one of before is replaced.", show_default=False),
]
Target = Annotated[
    str, typer.Option(metavar="KIND", help="What it is built for: cpu, this machine's; or cuda, its first NVIDIA GPU.")
]
Shapes = Annotated[
    list[str] | None,
    typer.Option(
        metavar="NAME=SHAPE",
        help="An input's exact shape, as image=1x3x224x224. Once for each input; a name given again begins "
        "another schedule. Default: the model's own, a free dimension being 1.",
        show_default=False,
    ),
]
Batches = Annotated[
    str,
    typer.Option(metavar="N,N", help="Batch sizes to build, as 1,8, where only the batch is free.", show_default=False),
]
Precisions = Annotated[
    str, typer.Option(metavar="P,P", help="Precisions to allow beside fp32, as fp16,int8.", show_default=False)
]
Calibration = Annotated[
    Path | None,
    typer.Option(
        metavar="X.npz",
        help="Typical inputs: an array for each input, the first dimension being the sample.",
        show_default=False,
    ),
]
Outputs = Annotated[
    list[str] | None,
    typer.Option(
        "--output",
        metavar="NAME",
        help="What to compute, by name; any layer's output, and again for more. Default: the model's outputs.",
        show_default=False,
    ),
]
GateWords = Annotated[
    list[str] | None,
    typer.Option(
        metavar="GATE",
        help="What the plan must pass, and again for more: accuracy=test.npz,max-drop=0.005 (inputs and an array "
        "labels; a share of 1), latency=7ms,batch=1 (the 99th percentile), memory=2Gi.",
        show_default=False,
    ),
]
EffortWord = Annotated[str, typer.Option(metavar="EFFORT", help="How long to look: fast, balanced or thorough.")]
Plugins = Annotated[
    list[Path] | None,
    typer.Option(
        "--plugin",
        metavar="X.py",
        help="A module of layers of your own, and again for more. Its Python runs here, and travels in the plan.",
        show_default=False,
    ),
]
Budget = Annotated[
    str,
    typer.Option(
        metavar="TIME",
        help="How long trying tactics may take, as 90s or 10m; then the best so far is taken. Default: by the effort.",
        show_default=False,
    ),
]
AllowHost = Annotated[
    bool, typer.Option("--allow-host", help="Run layers that the GPU has no kernel for on the CPU, instead of failing.")
]
Report = Annotated[
    Path | None,
    typer.Option(metavar="X.html", help="Write what was found, as .html or .json.", show_default=False),
]
Json = Annotated[
    bool, typer.Option("--json", help="Print the result as one JSON object on standard output, and nothing else.")
]
SignKey = Annotated[
    Path | None,
    typer.Option(
        metavar="KEY",
        envvar="ENGINEWRIGHT_SIGN_KEY",
        help="Sign the plan with this ed25519 private key (PEM, not encrypted).",
        show_default=False,
    ),
]
FromEnvironment = Annotated[
    bool,
    typer.Option("--request-from-environment", hidden=True),
]
