"""The world's models: each of models.tsv built for the CPU, compared with its native runtime, and timed beside it.

usage: models.py FOLDER [--effort fast] [--seconds 1] [--write docs/models.md] [WORD ...]

Models that are not in FOLDER are fetched into it. Every model has a process of its own, so that one that breaks does
not take the others along. Errors are of the output's range: the largest
difference over the largest absolute value; of integers and texts the share that differs. Allowed is 1e-4, or what the
native runtime differs from itself with and without its optimizer where that is more (quantized and fp16 models). Ours
and the native runtime take turns on the same input; the ratio is of the medians. Exit code 1 if any model is wrong.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import model_catalog
import natives
import numpy as np

ALLOWED = 1e-4  # of the output's range, in fp32
SLOWER = 1.05  # a ratio of medians above this is said
MARKER = "<!-- measured by bench/models.py -->"


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """What is said of one model. `problem` is empty where it was built and agrees."""

    name: str
    native: str
    layers: str = ""
    error: float = 0.0
    ours_ms: float = 0.0
    native_ms: float = 0.0
    build_s: float = 0.0
    problem: str = ""
    refused: bool = False  # by one of our own sentences

    @property
    def wrong(self) -> bool:
        """Built, or tried to be, and not right."""
        return bool(self.problem) and not self.refused

    def line(self) -> str:
        """A line of the table."""
        if self.problem:
            return (
                f"| {self.name} | {self.native} | {'refused' if self.refused else '**wrong**'}: {self.problem} ||||||"
            )
        ratio = self.ours_ms / self.native_ms
        slower = " (slower)" if ratio > SLOWER else ""
        return (
            f"| {self.name} | {self.native} | {self.layers} | {self.error:.1e} | {self.ours_ms:.3f} "
            f"| {self.native_ms:.3f} | {ratio:.2f}{slower} | {self.build_s:.1f} |"
        )


def measured(model: model_catalog.Model, folder: Path, effort: str, seconds: float) -> Row:
    """Build and compare one model, in this process."""
    from enginewright_builder import build, command_line
    from enginewright_builder.progress import Silent
    from enginewright_runtime.engine.engine import Engine
    from enginewright_runtime.errors import EnginewrightError

    label, native = _native(model, folder)
    with tempfile.TemporaryDirectory() as workdir:
        plan, started = Path(workdir) / "engine.plan", time.monotonic()
        try:
            request = command_line.request(
                model=folder / model.name,
                output=plan,
                target="cpu",
                shapes=model.shapes.split(),
                batches="",
                precisions="",
                calibration=None,
                outputs=model.outputs.split(),
                gate_words=(),
                effort=effort,
                **({"prototxt": folder / model.companion_name} if model.companion else {}),
            )
            result = build.build(request, progress=Silent(), workdir=Path(workdir), overwrite=True)
        except EnginewrightError as error:
            return Row(name=model.name, native=label, problem=error.message.replace(f"{folder}/", ""), refused=True)
        took = time.monotonic() - started
        with Engine(plan) as engine:
            names = [binding.name for binding in engine.outputs]
            right, rival = native(names, False), native(names, True)
            feed = _feed(engine, right)
            expected, spread = right(feed), _worst(right(feed), rival(feed))
            worst, allowed = _worst(expected, engine.infer(feed)), max(ALLOWED, spread)
            ours_ms, native_ms = _race({"ours": lambda: engine.infer(feed), "native": lambda: rival(feed)}, seconds)
    return Row(
        name=model.name,
        native=label,
        layers=f"{result.layers_before} → {result.layers_after}",
        error=worst,
        ours_ms=ours_ms,
        native_ms=native_ms,
        build_s=took,
        problem="" if worst <= allowed else f"error {worst:.1e} of the output's range, allowed {allowed:.1e}",
    )


def _native(model: model_catalog.Model, folder: Path) -> tuple[str, Callable[[Sequence[str], bool], natives.Run]]:
    """Its name with version, and how to open it for these outputs; the flag asks for it as fast as it goes."""
    path = folder / model.name
    if model.format == "onnx":
        import onnxruntime

        return f"ONNX Runtime {onnxruntime.__version__}", lambda names, fast: natives.onnx_runtime(
            path, names, optimized=fast
        )
    if model.format == "tf-graphdef":
        import tensorflow

        return f"TensorFlow {tensorflow.__version__}", lambda names, fast: natives.tensorflow(path, names)
    import cv2

    return f"OpenCV {cv2.__version__}", lambda names, fast: natives.opencv(path, folder / model.companion_name, names)


def _feed(engine: Any, right: natives.Run) -> dict[str, Any]:
    """The first random inputs on which the native runtime gives finite results."""
    from enginewright_builder.tuning import inputs

    for rung in inputs.LADDER:
        feed = dict(inputs.random(engine.manifest.schedules[0].inputs, rung))
        try:
            outputs = right(feed)
        except Exception as error:  # the runtimes' errors have no common class
            print(f"  (another range of inputs: {type(error).__name__})", file=sys.stderr)
            continue
        if all(np.isfinite(o).all() for o in outputs.values() if isinstance(o, np.ndarray) and o.dtype.kind == "f"):
            return feed
    raise SystemExit("no random input is one that the native runtime takes")


def _worst(right: Mapping[str, Any], ours: Mapping[str, Any]) -> float:
    return max(_error(right[name], ours[name]) for name in right)


def _error(right: Any, ours: Any) -> float:
    right, ours = np.asarray(right), np.asarray(ours)
    if right.shape != ours.shape:
        return float("inf")
    if right.size == 0:
        return 0.0
    if right.dtype.kind != "f":
        return float(np.mean(right != ours))
    range_ = float(np.max(np.abs(right))) or 1.0
    return float(np.max(np.abs(right.astype(np.float64) - ours.astype(np.float64)))) / range_


def _race(runs: Mapping[str, Callable[[], object]], seconds: float) -> tuple[float, float]:
    from enginewright_builder.tuning import timer

    samples = timer.measure(runs, timer.Budget(seconds=seconds * len(runs), least=8, most=2000))
    return statistics.median(samples["ours"]) * 1e3, statistics.median(samples["native"]) * 1e3


def _apart(model: model_catalog.Model, arguments: argparse.Namespace) -> Row:
    """`measured` in a process of its own."""
    command = [sys.executable, __file__, str(arguments.folder), "--only", model.name]
    command += ["--effort", arguments.effort, "--seconds", f"{arguments.seconds}"]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    if ended.returncode == 0:
        return Row(**json.loads(ended.stdout.splitlines()[-1]))
    last = (ended.stderr.strip().splitlines() or [f"ended by signal {-ended.returncode}"])[-1]
    return Row(name=model.name, native=model.format, problem=last)


def page(rows: Sequence[Row], command: str) -> str:
    """The table with what it was measured on."""
    from enginewright_runtime.engine import available

    here = available.describe_host()
    good = sum(not row.problem for row in rows)
    lines = [
        f"{here.product}, {here.processors} CPUs, {here.memory / (1 << 30):.0f} GiB; Linux {platform.release()}, "
        f"Python {platform.python_version()}, {time.strftime('%Y-%m-%d', time.gmtime())}. Load average at the end: "
        f"{os.getloadavg()[0]:.1f} (beyond the number of CPUs, other work slowed both).",
        "",
        f"    {command}",
        "",
        f"{good} of {len(rows)} built and agree, {sum(row.refused for row in rows)} refused, "
        f"{sum(row.wrong for row in rows)} wrong.",
        "",
        "| model | native runtime | layers | worst error | ours, ms | native, ms | ratio | build, s |",
        "|---|---|---|---:|---:|---:|---:|---:|",
    ]
    return "\n".join([*lines, *(row.line() for row in rows)]) + "\n"


def main() -> None:
    """Parse the words, run every model, print and perhaps write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("words", nargs="*")
    parser.add_argument("--effort", default="fast")
    parser.add_argument("--seconds", type=float, default=1.0, help="for each of the two that take turns")
    parser.add_argument("--write", type=Path, help=f"replace what follows {MARKER} in this file")
    parser.add_argument("--only", help=argparse.SUPPRESS)
    told = parser.parse_intermixed_args()
    if told.only:
        (model,) = [each for each in model_catalog.models() if each.name == told.only]
        print(json.dumps(asdict(measured(model, told.folder, told.effort, told.seconds))))
        return
    wanted = model_catalog.models(told.words)
    for problem in model_catalog.fetch(told.folder, wanted):
        print(problem, file=sys.stderr)
    rows = []
    for model in wanted:
        rows.append(_apart(model, told))
        print(rows[-1].line(), flush=True)
    if told.write:
        kept, _, _ = told.write.read_text(encoding="utf-8").partition(MARKER)
        command = f"python bench/models.py FOLDER --effort {told.effort} --seconds {told.seconds:g}"
        told.write.write_text(f"{kept}{MARKER}\n\n{page(rows, command)}", encoding="utf-8")
    sys.exit(1 if any(row.wrong for row in rows) else 0)


if __name__ == "__main__":
    main()
