"""The world's models: each of models.tsv built for the CPU, compared with its native runtime, and timed beside it.

usage: models.py FOLDER [--effort fast] [--seconds 1] [--limit 300] [--rows FILE] [--write docs/models.md] [WORD ...]

Models that are not in FOLDER are fetched into it. Every model has a process of its own, which may take `limit` seconds,
so that one that breaks or hangs does not take the others along. agreement.py says what is allowed. Ours and the native
runtime take turns on the same input. Times are medians; a row is slower if both the ratio of the medians and that of
the fastest tenths are: other work on the machine lengthens many runs, and rarely the fastest of both.

Rows that the file of --rows holds are not measured again, so a run may be interrupted; with WORDs those that hold one
are, and the page is written of all that the file then holds. Exit code 1 if any model is wrong.
"""

import argparse
import itertools
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import agreement
import model_catalog
import natives
import page

SLOWER = 1.05  # ratios above this are said
FASTEST = 0.1  # of all runs: what the fastest of them do not exceed is how long it takes undisturbed
MARKER = "<!-- measured by bench/models.py -->"
_PATIENCE = 30.0  # seconds for the turns of a model whose runs take seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """What is said of one model. `problem` is empty where it was built and agrees."""

    name: str
    native: str
    layers: str = ""
    error: float = 0.0
    inputs: str = ""
    ours_ms: float = 0.0
    native_ms: float = 0.0
    undisturbed: float = 0.0  # ratio of the fastest tenths; 0: not known
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
                f"| {self.name} | {self.native} | {'refused' if self.refused else '**wrong**'}: {self.problem} |||||||"
            )
        ratio = self.ours_ms / self.native_ms
        undisturbed = self.undisturbed or ratio
        slower = " (slower)" if min(ratio, undisturbed) > SLOWER else ""
        return (
            f"| {self.name} | {self.native} | {self.layers} | {self.error:.1e}{self.inputs} | {self.ours_ms:.3f} "
            f"| {self.native_ms:.3f} | {ratio:.2f}{slower} | {undisturbed:.2f} | {self.build_s:.1f} |"
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
            found = agreement.judge(_samples(engine, right, rival))
            feed = next(natives.feeds(engine.manifest.schedules[0].inputs, right))
            times = _race({"ours": lambda: engine.infer(feed), "native": lambda: rival(feed)}, seconds)
    error, allowed = found.sample.error, found.sample.allowed
    return Row(
        name=model.name,
        native=label,
        layers=f"{result.layers_before} → {result.layers_after}",
        error=error,
        inputs=found.words,
        **times,
        build_s=took,
        problem=""
        if found.sample.agrees
        else f"error {error:.1e} of the output's range, allowed {allowed:.1e}{found.words}",
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

        return f"TensorFlow {tensorflow.__version__}", lambda names, fast: natives.tensorflow(
            path, names, optimized=fast
        )
    import cv2

    return f"OpenCV {cv2.__version__}", lambda names, fast: natives.opencv(
        path, folder / model.companion_name, names, optimized=fast
    )


def _samples(engine: Any, right: natives.Run, rival: natives.Run) -> Iterator[agreement.Sample]:
    for feed in itertools.islice(natives.feeds(engine.manifest.schedules[0].inputs, right), agreement.INPUTS):
        plain, optimized, ours = right(feed), rival(feed), engine.infer(feed)
        nearer = min(agreement.worst(plain, ours), agreement.worst(optimized, ours))
        yield agreement.Sample(error=nearer, spread=agreement.worst(plain, optimized))


def _race(runs: Mapping[str, Callable[[], object]], seconds: float) -> dict[str, float]:
    """The times of a row."""
    from enginewright_builder.tuning import timer

    samples = timer.measure(runs, timer.Budget(seconds=seconds * len(runs), least=8, most=2000, patience=_PATIENCE))
    median = {name: statistics.median(taken) * 1e3 for name, taken in samples.items()}
    fastest = {name: timer.percentile(taken, FASTEST) for name, taken in samples.items()}
    return {
        "ours_ms": median["ours"],
        "native_ms": median["native"],
        "undisturbed": fastest["ours"] / fastest["native"],
    }


def _apart(model: model_catalog.Model, arguments: argparse.Namespace) -> Row:
    """`measured` in a process of its own."""
    command = [sys.executable, __file__, str(arguments.folder), "--only", model.name]
    command += ["--effort", arguments.effort, "--seconds", f"{arguments.seconds}"]
    try:
        ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=arguments.limit)
    except subprocess.TimeoutExpired:
        return Row(name=model.name, native=model.format, problem=f"it took longer than {arguments.limit:g} s")
    if ended.returncode == 0:
        return Row(**json.loads(ended.stdout.splitlines()[-1]))
    last = (ended.stderr.strip().splitlines() or [f"ended by signal {-ended.returncode}"])[-1]
    return Row(name=model.name, native=model.format, problem=last)


def _kept(path: Path | None) -> dict[str, Row]:
    """The rows of an earlier run, by name; of two of a name the later."""
    if path is None or not path.is_file():
        return {}
    rows = (Row(**json.loads(line)) for line in path.read_text(encoding="utf-8").splitlines())
    return {row.name: row for row in rows}


def _keep(path: Path | None, row: Row) -> None:
    if path is not None:
        with path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(asdict(row)) + "\n")


def table(rows: Sequence[Row], command: str) -> str:
    """The rows with what they were measured on."""
    good = sum(not row.problem for row in rows)
    lines = [
        page.machine(),
        "",
        f"    {command}",
        "",
        f"{good} of {len(rows)} built and agree, {sum(row.refused for row in rows)} refused, "
        f"{sum(row.wrong for row in rows)} wrong.",
        "",
        "| model | native runtime | layers | worst error | ours, ms | native, ms | ratio | undisturbed | build, s |",
        "|---|---|---|---:|---:|---:|---:|---:|---:|",
    ]
    return "\n".join([*lines, *(row.line() for row in rows)]) + "\n"


def main() -> None:
    """Parse the words, run every model, print and perhaps write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("words", nargs="*")
    parser.add_argument("--effort", default="fast")
    parser.add_argument("--seconds", type=float, default=1.0, help="for each of the two that take turns")
    parser.add_argument("--limit", type=float, default=300.0, help="seconds for each model")
    parser.add_argument("--rows", type=Path, help="rows that were measured, a line of JSON each: more are added")
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
    known = _kept(told.rows)
    for model in wanted:
        if told.words or model.name not in known:
            known[model.name] = _apart(model, told)
            _keep(told.rows, known[model.name])
        print(known[model.name].line(), flush=True)
    rows = [known[model.name] for model in model_catalog.models() if model.name in known]
    if told.write:
        command = f"python bench/models.py FOLDER --effort {told.effort} --seconds {told.seconds:g}"
        page.replace_after(MARKER, told.write, table(rows, command))
    sys.exit(1 if any(row.wrong for row in rows) else 0)


if __name__ == "__main__":
    main()
