"""ONNX's own node tests through our importer, passes and lowering, or through a whole plan file, on the CPU.

Counts only what ONNX Runtime itself passes: what it does not run is none of ours. As a program it writes the table in
docs/onnx-node-tests-cpu.md:

    python tests/backend/node_tests.py [--plan] [--output docs/onnx-node-tests-cpu.md] [WORD ...]

Nothing here loosens a test: tolerances are the test's own.
"""

import argparse
import ctypes
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from hashlib import sha256
from importlib import metadata
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
from onnx.backend.test.case.test_case import TestCase
from onnx.backend.test.loader import load_model_tests
from onnx.backend.test.runner import Runner

import enginewright_runtime
from enginewright_builder import build, passes
from enginewright_builder.importers import from_onnx
from enginewright_builder.network import lowering, specialize
from enginewright_builder.network.network import Network
from enginewright_builder.progress import Silent
from enginewright_runtime.engine.engine import Engine
from enginewright_runtime.plan.recipe import Effort, Recipe
from enginewright_runtime.plan.request import BuildRequest
from enginewright_runtime.plan.target import TargetKind, TargetRequirement

Feeds = Mapping[str, Any]
Outputs = Sequence[Any]
Way = Callable[[Path, Feeds, Sequence[str]], Outputs]

# What ONNX Runtime's Python interface takes and gives as raw bytes only (onnx.proto, TensorProto.DataType).
_RAW = {
    "bfloat16": (16, ml_dtypes.bfloat16),
    "float8_e4m3fn": (17, ml_dtypes.float8_e4m3fn),
    "float8_e4m3fnuz": (18, ml_dtypes.float8_e4m3fnuz),
    "float8_e5m2": (19, ml_dtypes.float8_e5m2),
    "float8_e5m2fnuz": (20, ml_dtypes.float8_e5m2fnuz),
}
_RAW_NAMES = {f"tensor({name.replace('_', '')})": name for name in _RAW}


class Stage(StrEnum):
    """Where a test ended."""

    PASSED = "passed"
    NOT_RUN = "ONNX Runtime does not pass it"
    FAILED = "ONNX Runtime passes it, we do not"


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """How one test ended; `why` is the first line of what went wrong."""

    name: str
    operators: tuple[str, ...]
    stage: Stage
    why: str = ""


@cache
def cases() -> tuple[TestCase, ...]:
    """Every node test that the installed onnx has, sorted by name."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the tests' own NumPy overflows on purpose
        return tuple(sorted(load_model_tests(kind="node"), key=lambda case: case.name))


def selection() -> tuple[TestCase, ...]:
    """About a hundred of them: the first of each letter pair of operators' names, so that all families are there."""
    chosen: dict[str, TestCase] = {}
    for case in cases():
        operator = case.model.graph.node[0].op_type
        chosen.setdefault(operator[:3], case)
    return tuple(chosen.values())


def run_case(case: TestCase, way: Way) -> Verdict:
    """Run one test in one way, if ONNX Runtime by itself passes it."""
    operators = tuple(dict.fromkeys(node.op_type for node in case.model.graph.node))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        path.write_bytes(case.model.SerializeToString())
        for stage, each in ((Stage.NOT_RUN, by_onnxruntime), (Stage.FAILED, way)):
            why = _try(case, path, each)
            if why:
                return Verdict(name=case.name, operators=operators, stage=stage, why=why)
    return Verdict(name=case.name, operators=operators, stage=Stage.PASSED)


def by_onnxruntime(path: Path, feeds: Feeds, names: Sequence[str]) -> Outputs:
    """The model as it is, in ONNX Runtime with its defaults."""
    return _run(path.read_bytes(), feeds, names)


def by_passes(path: Path, feeds: Feeds, names: Sequence[str]) -> Outputs:
    """Import, fix the shapes, PIPELINE, expand, and run that in ONNX Runtime."""
    network = _specialized(from_onnx.load(path), feeds)
    passes.run(network)
    return _run(ir.to_proto(lowering.to_onnx(network)).SerializeToString(), feeds, names)


def by_plan(path: Path, feeds: Feeds, names: Sequence[str]) -> Outputs:
    """A whole build to a plan file, and the engine on that."""
    destination = path.parent / "store" / "engine.plan"
    network = from_onnx.load(path)
    free = specialize.free_inputs(network)
    shapes = {name: tuple(value.shape) for name, value in feeds.items() if name in free and hasattr(value, "shape")}
    recipe = Recipe(
        model=f"sha256:{sha256(path.read_bytes()).hexdigest()}",
        shapes=(shapes,) if shapes else (),
        effort=Effort.FAST,
        target=TargetRequirement(kind=TargetKind.CPU),
        builder=enginewright_runtime.__version__,
    )
    request = BuildRequest(recipe=recipe, model=path.as_uri(), destination=destination.as_uri())
    workdir = path.parent / "work"
    workdir.mkdir(exist_ok=True)
    build.build(request, progress=Silent(), workdir=workdir)
    with Engine(destination) as engine:
        engine.replay_goldens()
        outputs = engine.infer(dict(feeds))
    return [outputs[name] for name in names]


WAYS: Mapping[str, Way] = {"passes": by_passes, "plan": by_plan}


def _specialized(network: Network, feeds: Feeds) -> Network:
    free = specialize.free_inputs(network)
    shapes = {name: value.shape for name, value in feeds.items() if name in free and isinstance(value, np.ndarray)}
    return specialize.with_shapes(network, shapes)


def _try(case: TestCase, path: Path, way: Way) -> str:
    """Why a test does not pass in this way; empty if it does."""
    names = [value.name for value in case.model.graph.output]
    inputs = [value.name for value in case.model.graph.input]
    for given, expected in case.data_sets or ():
        feeds = dict(zip(inputs, map(_as_array, given), strict=False))
        try:
            outputs = way(path, feeds, names)
            Runner.assert_similar_outputs([*map(_as_array, expected)], list(outputs), case.rtol, case.atol)
        except Exception as error:  # a test runner: whatever goes wrong is the verdict
            return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
    return ""


def _as_array(value: Any) -> Any:
    """The tests hold small floats as TensorProtos and single numbers as NumPy scalars: an engine takes arrays."""
    if isinstance(value, onnx.TensorProto):
        return onnx.numpy_helper.to_array(value)
    if isinstance(value, list | tuple):
        return [_as_array(item) for item in value]
    return np.asarray(value) if isinstance(value, np.generic) else value


def _run(model: bytes, feeds: Feeds, names: Sequence[str]) -> Outputs:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    types = {value.name: value.type for value in session.get_inputs()}
    fed = {name: _wrapped(value, types[name]) for name, value in feeds.items() if name in types}
    if not any(value.type in _RAW_NAMES for value in session.get_outputs()):
        return session.run(list(names), fed)
    every = {n: v if isinstance(v, onnxruntime.OrtValue) else onnxruntime.OrtValue.ortvalue_from_numpy(v)
             for n, v in fed.items()}  # fmt: skip
    return [_unwrapped(value) for value in session.run_with_ort_values(list(names), every)]


def _wrapped(value: Any, kind: str) -> Any:
    if kind not in _RAW_NAMES:
        return value
    return onnxruntime.OrtValue.ortvalue_from_numpy_with_onnx_type(
        np.ascontiguousarray(value), _RAW[_RAW_NAMES[kind]][0]
    )


def _unwrapped(value: Any) -> Any:
    name = _RAW_NAMES.get(value.data_type())
    if name is None:
        return value.numpy()
    size = value.tensor_size_in_bytes()
    data = ctypes.string_at(value.data_ptr(), size) if size else b""
    return np.frombuffer(bytearray(data), _RAW[name][1]).reshape(value.shape())


def table(verdicts: Sequence[Verdict], *, way: str, seconds: float) -> str:
    """The summary as Markdown."""
    counts = Counter(verdict.stage for verdict in verdicts)
    passable = counts[Stage.PASSED] + counts[Stage.FAILED]
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in ("onnx", "onnxruntime", "onnx-ir", "numpy"))
    through = {
        "passes": "importer, passes and lowering, run by ONNX Runtime",
        "plan": "importer, passes, tactics, a plan file, and the engine that serves",
    }[way]
    lines = [
        "# ONNX's node tests on the CPU",
        "",
        f"Through {through}. Written by `python tests/backend/node_tests.py{' --plan' * (way == 'plan')}` in "
        f"{seconds:.0f} s with {versions}, Python {sys.version.split()[0]}.",
        "",
        "| | tests |",
        "|---|---|",
        f"| in onnx | {len(verdicts)} |",
        f"| that ONNX Runtime passes | {passable} |",
        f"| that we pass of those | {counts[Stage.PASSED]} |",
        f"| that we fail of those | {counts[Stage.FAILED]} |",
        "",
        "## Ours to mend",
        "",
        *(_lines(verdicts, Stage.FAILED) or ["None."]),
        "",
        "## What ONNX Runtime itself does not pass, by operator",
        "",
        *_by_operator(verdicts),
        "",
    ]
    return "\n".join(lines)


def _lines(verdicts: Sequence[Verdict], stage: Stage) -> list[str]:
    return [f"* `{verdict.name}`: {verdict.why}" for verdict in verdicts if verdict.stage is stage]


def _by_operator(verdicts: Sequence[Verdict]) -> list[str]:
    counts = Counter(" + ".join(v.operators[:3]) for v in verdicts if v.stage is Stage.NOT_RUN)
    return [", ".join(f"{name} {count}" for name, count in sorted(counts.items())) + "."] if counts else ["None."]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run all, or those whose names contain one of the words; exit 1 if one fails that ONNX Runtime passes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("words", nargs="*", help="only tests whose names contain one of these")
    parser.add_argument("--plan", action="store_true", help="through a whole plan file and the engine")
    parser.add_argument("--output", type=Path, help="write the table there")
    options = parser.parse_args(arguments)
    chosen = [case for case in cases() if not options.words or any(word in case.name for word in options.words)]
    way = "plan" if options.plan else "passes"
    started = time.monotonic()
    verdicts = []
    for number, case in enumerate(chosen, 1):
        verdicts.append(run_case(case, WAYS[way]))
        if verdicts[-1].stage is Stage.FAILED or number % 100 == 0:
            told = f" {verdicts[-1].name}: {verdicts[-1].why}" if verdicts[-1].stage is Stage.FAILED else ""
            sys.stderr.write(f"{number}/{len(chosen)}{told}\n")
    text = table(verdicts, way=way, seconds=time.monotonic() - started)
    if options.output:
        options.output.write_text(text)
    sys.stdout.write(text)
    return int(any(verdict.stage is Stage.FAILED for verdict in verdicts))


if __name__ == "__main__":
    sys.exit(main())
