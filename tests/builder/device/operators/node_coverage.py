"""ONNX's node tests in portable form: importer, constants, function bodies, lowerings, and the NumPy reference.

Counts how many of the tests that ONNX Runtime passes become computations entirely and give the expected numbers, and
groups the others by what is missing. As a program:

    python tests/builder/device/operators/node_coverage.py [--list] [WORD ...]

The tests give everything as an input of the network, axes, pads and sizes too. Where those decide about shapes, a
network on a device must know them when it is built. So a test that is declined as it is, is tried again with its small
inputs (vectors and single numbers) as constants of the network, and counted apart. If then all outputs are constants,
nothing was left to compute, and the test counts as declined.
"""

import argparse
import importlib.util
import sys
import tempfile
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import onnx

from enginewright_builder import passes, planning
from enginewright_builder.device import reference, schedule, stages
from enginewright_builder.device.implementation import Device
from enginewright_builder.device.operators.layer import Declined
from enginewright_builder.device.schedule import Workshop
from enginewright_builder.emit import Blobs
from enginewright_builder.importers import from_onnx
from enginewright_builder.network import extract, specialize
from enginewright_builder.tuning import trial
from enginewright_builder.tuning.allowance import Deadline
from enginewright_builder.tuning.timings import Timings
from enginewright_runtime.plan.recipe import Precision, Recipe
from enginewright_runtime.plan.target import TargetKind, TargetRequirement

_HOPPER = Device(capability=90, multiprocessors=132, l2_bytes=50 << 20, shared_bytes=227 << 10)
_NOBODY: Any = None
_SMALL = 16  # elements of an input that may be a parameter rather than data
Way = Callable[[Path, Mapping[str, Any], Sequence[str]], Sequence[Any]]


def _node_tests() -> ModuleType:
    """The program that runs these tests on the CPU: it knows them and how they are compared."""
    path = Path(__file__).parents[3] / "backend" / "node_tests.py"
    spec = importlib.util.spec_from_file_location("enginewright_node_tests", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


node_tests = _node_tests()


class Verdict(StrEnum):
    """Where a test ended."""

    PASSED = "passes as it is"
    SETTLED = "passes with its small inputs as constants"
    DECLINED = "declined"
    WRONG = "wrong"
    NOT_RUN = "ONNX Runtime does not pass it"


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """How a test ended, and the first line of why."""

    name: str
    verdict: Verdict
    why: str = ""


def by_reference(path: Path, feeds: Mapping[str, Any], names: Sequence[str]) -> list[Any]:
    """Through stages, each evaluated by the reference. Raises Declined where something has no lowering."""
    if not all(isinstance(value, np.ndarray) for value in feeds.values()):
        raise Declined("an input is no tensor")
    network = from_onnx.load(path)
    free = specialize.free_inputs(network)
    if free:
        shapes = {name: value.shape for name, value in feeds.items() if name in free and isinstance(value, np.ndarray)}
        network = specialize.with_shapes(network, shapes)
    staged = stages.staged(network)
    values: dict[str, Any] = {**staged.constants, **feeds}
    for stage in staged.stages:
        operands = [None if held is None else values[held.name] for held in stage.inputs]
        values[stage.output.name] = reference.evaluate(stage.computation, operands)
    return [values[name] for name in names]


def by_layers(path: Path, feeds: Mapping[str, Any], names: Sequence[str]) -> list[Any]:
    """As a build for a GPU does it: shapes fixed, passes, then each layer by itself; but for the tactics' choice."""
    if not all(isinstance(value, np.ndarray) for value in feeds.values()):
        raise Declined("an input is no tensor")
    loaded = from_onnx.load(path)
    free = specialize.free_inputs(loaded)
    network = specialize.with_shapes(loaded, {name: value.shape for name, value in feeds.items() if name in free})
    passes.run(network, passes.gpu_pipeline(Precision.FP32, (), capability=90))
    values: dict[str, Any] = dict(feeds)
    for node in network.layers():
        staged = stages.staged(extract.alone(network, node))
        local = {**values, **staged.constants}
        for stage in staged.stages:
            operands = [None if held is None else local[held.name] for held in stage.inputs]
            local[stage.output.name] = reference.evaluate(stage.computation, operands)
        values |= {output.name: local[output.name] for output in node.outputs if output.name}
    return [values[name] for name in names]


def by_host(path: Path, feeds: Mapping[str, Any], names: Sequence[str]) -> list[Any]:
    """As a build for a GPU with --allow-host does it, of a model none of whose layers the device takes: no GPU is
    asked for anything."""
    network, blobs = from_onnx.load(path), Blobs()
    free = specialize.free_inputs(network)
    shapes = {name: value.shape for name, value in feeds.items() if name in free and isinstance(value, np.ndarray)}
    workshop = Workshop(device=_HOPPER, bench=_NOBODY, timings=Timings(None), step=lambda what: None)
    recipe = Recipe(model="m", target=TargetRequirement(kind=TargetKind.CUDA), builder="0", allow_host=True)
    with planning.reference(network, blobs) as right:
        built = schedule.schedule(
            index=0, network=network, shapes=shapes, samples=None, right=right, blobs=blobs, recipe=recipe,
            workshop=workshop, deadline=Deadline(),
        )  # fmt: skip
    with trial.schedule_loaded(built.schedule, blobs) as run:
        outputs = run(feeds)
    return [outputs[name] for name in names]


WAYS: Mapping[str, Way] = {"network": by_reference, "layers": by_layers, "host": by_host}


def run_case(case: Any, way: Way = by_reference) -> Ended:
    """Run one test, if ONNX Runtime by itself passes it; once more with its small inputs settled if it is declined."""
    inputs = [value.name for value in case.model.graph.input]
    names = [value.name for value in case.model.graph.output]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        path.write_bytes(case.model.SerializeToString())
        if node_tests._try(case, path, node_tests.by_onnxruntime):
            return Ended(name=case.name, verdict=Verdict.NOT_RUN)
        why = ""
        for settled in (False, True):
            declined = wrong = ""
            for given, expected in case.data_sets or ():
                feeds = dict(zip(inputs, map(node_tests._as_array, given), strict=False))
                model = settle(case.model, feeds) if settled else case.model
                path.write_bytes(model.SerializeToString())
                kept = {value.name for value in model.graph.input}
                try:
                    outputs = way(path, {name: value for name, value in feeds.items() if name in kept}, names)
                    node_tests.Runner.assert_similar_outputs(
                        [*map(node_tests._as_array, expected)], list(outputs), case.rtol, case.atol
                    )
                except Declined as error:
                    declined = str(error)
                except Exception as error:  # a test runner: whatever goes wrong is the verdict
                    wrong = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
            why = why or wrong or declined
            if wrong:
                return Ended(name=case.name, verdict=Verdict.WRONG, why=wrong)
            if not declined:
                return Ended(name=case.name, verdict=Verdict.SETTLED if settled else Verdict.PASSED)
    return Ended(name=case.name, verdict=Verdict.DECLINED, why=why)


def settle(model: onnx.ModelProto, feeds: Mapping[str, Any]) -> onnx.ModelProto:
    """The model with the small inputs of these feeds as constants."""
    made = onnx.ModelProto()
    made.CopyFrom(model)
    made.ir_version = max(made.ir_version, 4)  # before, every initializer had to be an input too
    for value in list(made.graph.input):
        given = feeds.get(value.name)
        if isinstance(given, np.ndarray) and given.ndim < 2 and given.size <= _SMALL and given.dtype.kind in "ifub":
            made.graph.initializer.append(onnx.numpy_helper.from_array(given, value.name))
            made.graph.input.remove(value)
    return made


def main(arguments: Sequence[str] | None = None) -> int:
    """Run all, or those whose names contain one of the words; write what is missing, by reason."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("words", nargs="*", help="only tests whose names contain one of these")
    parser.add_argument("--list", action="store_true", help="name each test that fails")
    parser.add_argument("--way", choices=list(WAYS), default="network", help="as a whole, or each layer by itself")
    options = parser.parse_args(arguments)
    chosen = [case for case in node_tests.cases() if not options.words or any(w in case.name for w in options.words)]
    sys.stdout.write(summary([run_case(case, WAYS[options.way]) for case in chosen], names=options.list))
    return 0


def summary(ended: Sequence[Ended], *, names: bool = False) -> str:
    """Counts, then the reasons, most frequent first."""
    counts = Counter(each.verdict for each in ended)
    able = len(ended) - counts[Verdict.NOT_RUN]
    lines = [f"{able} tests that ONNX Runtime passes"]
    lines += [
        f"{counts[verdict]:5d} {100 * counts[verdict] / max(able, 1):5.1f} % {verdict}"
        for verdict in Verdict
        if verdict is not Verdict.NOT_RUN
    ]
    reasons: dict[str, list[str]] = defaultdict(list)
    for each in ended:
        if each.why:
            reasons[f"{each.verdict}: {each.why}"].append(each.name)
    for why, cases in sorted(reasons.items(), key=lambda item: -len(item[1])):
        lines.append(f"{len(cases):4d} {why}")
        lines += [f"       {name}" for name in cases if names]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
