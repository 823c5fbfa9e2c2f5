"""Ours against ONNX Runtime with its best settings, side by side in one process, on real models.

usage: cpu_peers.py FOLDER [--effort balanced] [--seconds 4] [--write docs/performance.md] [WORD ...]

Each ONNX model of models.tsv that lies under FOLDER (and whose path holds a WORD) is built in this process. Then the
engine and one ONNX Runtime session for each of `peers` take turns on the same input, so that whatever else the machine
does hits all alike; the first run of each turn does not count. ONNX Runtime's best is the peer that came out fastest,
chosen after the fact, which favours it. Two statistics: the median, and the 10th percentile, which is nearer to what
the code costs where other processes take their share of the machine.
"""

import argparse
import statistics
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import model_catalog
import natives
import numpy as np
import onnxruntime
import page

from enginewright_builder import build, command_line, planning  # noqa: F401  # planning: loaded before the clock runs
from enginewright_builder.progress import Silent
from enginewright_builder.tuning import timer
from enginewright_runtime.engine import available
from enginewright_runtime.engine.engine import Engine
from enginewright_runtime.errors import EnginewrightError

QUIET = 0.1
MARKER = "<!-- measured by bench/cpu_peers.py -->"


def peers() -> dict[str, Callable[[str], Any]]:
    """Every setting of ONNX Runtime that is tried, by name: levels, thread counts, execution modes."""
    processors = available.processors()
    made: dict[str, Callable[[str], Any]] = {}
    for level in ("ORT_ENABLE_ALL", "ORT_ENABLE_EXTENDED"):
        for threads in sorted({1, processors}):
            for parallel in (False, True) if processors > 1 and level == "ORT_ENABLE_ALL" else (False,):
                name = f"{level[11:].lower()}, {threads} thr{', parallel' if parallel else ''}"
                made[name] = lambda path, level=level, threads=threads, parallel=parallel: session(
                    path, level, threads, parallel=parallel
                )
    return made


def session(path: str, level: str, threads: int, *, parallel: bool) -> Any:
    """A session on the model file as it is."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, level)
    options.intra_op_num_threads = threads
    if parallel:
        options.execution_mode = onnxruntime.ExecutionMode.ORT_PARALLEL
        options.inter_op_num_threads = threads
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def race(model: Path, shapes: Sequence[str], effort: str, seconds: float, workdir: Path) -> str:
    """Build, measure, and give the table's row."""
    plan = workdir / "engine.plan"
    request = command_line.request(
        model=model,
        output=plan,
        target="cpu",
        shapes=shapes,
        batches="",
        precisions="",
        calibration=None,
        outputs=(),
        gate_words=(),
        effort=effort,
    )
    result = build.build(request, progress=Silent(), workdir=workdir, overwrite=True)
    with Engine(plan) as engine:
        schedule = engine.manifest.report["schedules"][0]
        sessions = {name: make(str(model)) for name, make in peers().items()}
        names = [value.name for value in next(iter(sessions.values())).get_outputs()]
        right = natives.onnx_runtime(model, names, optimized=False)
        feed = dict(next(natives.feeds(engine.manifest.schedules[0].inputs, right)))
        runs: dict[str, Callable[[], object]] = {"ours": lambda: engine.infer(feed)}
        for name, each in sessions.items():
            runs[name] = lambda each=each: each.run(names, feed)
        samples = timer.measure(runs, timer.Budget(seconds=seconds * len(runs), least=8, most=2000))
    typical = compared({name: statistics.median(taken) for name, taken in samples.items()})
    quiet = compared({name: timer.percentile(taken, QUIET) for name, taken in samples.items()})
    return (
        f"| {model.parent.name}/{model.name} | {result.layers_before} → {result.layers_after} | {typical} | {quiet} "
        f"| {schedule['variant']}, {schedule['tactic']} | {len(samples['ours'])} |"
    )


def compared(seconds: Mapping[str, float]) -> str:
    """Ours, the best peer's, the difference, and which peer it is: three cells."""
    ours, others = seconds["ours"], {name: each for name, each in seconds.items() if name != "ours"}
    best = min(others, key=lambda name: others[name])
    return f"{ours * 1000:.3f} | {others[best] * 1000:.3f} ({best}) | {ours / others[best] - 1:+.1%}"


def heading(command: str) -> list[str]:
    """What the numbers were measured on."""
    return [
        page.machine(f"ONNX Runtime {onnxruntime.__version__}", f"NumPy {np.__version__}"),
        "",
        f"    {command}",
        "",
        "| model | layers | ours, median ms | ONNX Runtime's best | difference | ours, 10th percentile ms "
        "| ONNX Runtime's best | difference | our choice | samples |",
        "|---|---|---:|---:|---:|---:|---:|---:|---|---:|",
    ]


def main() -> None:
    """Parse the words, run every model, print and perhaps write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("words", nargs="*")
    parser.add_argument("--effort", default="balanced")
    parser.add_argument("--seconds", type=float, default=4.0, help="for each of the sessions that take turns")
    parser.add_argument("--write", type=Path, help=f"replace what follows {MARKER} in this file")
    told = parser.parse_args()
    rows = []
    for each in model_catalog.models(told.words):
        model = told.folder / each.name
        if each.format != "onnx" or not model.exists():
            continue
        with tempfile.TemporaryDirectory() as workdir:
            try:
                rows.append(race(model, each.shapes.split(), told.effort, told.seconds, Path(workdir)))
            except EnginewrightError as error:
                rows.append(f"| {each.name} | not built: {error.message} |")
        print(rows[-1], flush=True)
    command = f"python bench/cpu_peers.py FOLDER --effort {told.effort} --seconds {told.seconds:g}"
    table = "\n".join([*heading(command), *rows]) + "\n"
    if told.write:
        page.replace_after(MARKER, told.write, table)


if __name__ == "__main__":
    main()
