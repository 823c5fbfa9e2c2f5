"""ONNX's node tests on this machine's GPU, in portable form: each stage of node_coverage.py as one generated kernel.

What ONNX Runtime passes is asked of ONNX Runtime on this machine, as everywhere. As a program, with one process for
each of the jobs:

    python tests/builder/device/operators/node_device.py [--jobs N] [--way WAY] [--output TABLE.md] [WORD ...]

The ways: `kernels` runs each stage as the kernel that the tuner would try first. `plan` builds a plan file for this
GPU, every layer tuned at the least effort, and runs that; `host` lets it have host segments. `compile` needs no GPU:
kernels are emitted and compiled for sm_90a, and the numbers are the reference's.
"""

import argparse
import importlib.util
import multiprocessing
import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from hashlib import sha256
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

import enginewright_runtime
from enginewright_builder import build
from enginewright_builder.device import compile as compiler
from enginewright_builder.device import emit_cuda, schedule_kernel, stages, tensors
from enginewright_builder.device.loops import loops
from enginewright_builder.device.operators.layer import Declined
from enginewright_builder.device.schedule_kernel import Schedule, Shape
from enginewright_builder.device.stages import Held, Holder, Stage
from enginewright_builder.emit import Blobs
from enginewright_builder.importers import from_onnx
from enginewright_builder.network import specialize
from enginewright_builder.progress import Silent
from enginewright_runtime.engine.cuda.program import Argument, DeviceProgram, Kernel, Pointer, Space, Step, Tensor
from enginewright_runtime.engine.engine import Engine
from enginewright_runtime.engine.values import dtype_of
from enginewright_runtime.errors import UnsupportedError
from enginewright_runtime.plan.recipe import Effort, Recipe
from enginewright_runtime.plan.request import BuildRequest
from enginewright_runtime.plan.target import TargetKind, TargetRequirement

_ALIGNMENT = 256


def _sibling(name: str) -> ModuleType:
    path = Path(__file__).with_name(f"{name}.py")
    spec = importlib.util.spec_from_file_location(f"enginewright_{name}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


coverage = _sibling("node_coverage")


def program(path: Path, feeds: Mapping[str, Any], names: Sequence[str], architecture: str
            ) -> tuple[DeviceProgram, Blobs]:  # fmt: skip
    """The model as a device program of one kernel a stage, each in a stretch of the arena of its own."""
    if not all(isinstance(value, np.ndarray) for value in feeds.values()):
        raise Declined("an input is no tensor")
    network = from_onnx.load(path)
    free = specialize.free_inputs(network)
    if free:
        network = specialize.with_shapes(network, {name: feeds[name].shape for name in free})
    staged = stages.staged(network)
    blobs = Blobs()
    named = {name: blobs.add(name, _bytes(value)) for name, value in staged.constants.items()}
    given = {value.name: value for value in network.inputs}
    offsets: dict[str, int] = {}
    end = 0
    for stage in staged.stages:
        if stage.output.holder is Holder.TEMPORARY:
            offsets[stage.output.name] = end
            end += -(-max(_size(stage.output), 1) // _ALIGNMENT) * _ALIGNMENT

    def pointer(held: Held) -> Pointer:
        match held.holder:
            case Holder.CONSTANT:
                return Pointer(space=Space.BLOB, name=named[held.name])
            case Holder.TEMPORARY:
                return Pointer(space=Space.ARENA, offset=offsets[held.name])
            case _:
                space = Space.INPUT if held.name in given else Space.OUTPUT
                return Pointer(space=space, name=held.name)

    steps = [
        step
        for number, stage in enumerate(staged.stages)
        if (step := _step(stage, number, blobs, architecture, pointer)) is not None
    ]
    outputs = {stage.output.name: stage.output for stage in staged.stages}
    made = DeviceProgram(
        inputs=tuple(
            Tensor(name=name, dtype=value.dtype.name, shape=value.shape, bytes=value.nbytes)
            for name, value in feeds.items()
            if name in given
        ),
        outputs=tuple(
            Tensor(name=name, dtype=outputs[name].dtype, shape=outputs[name].shape, bytes=_size(outputs[name]))
            for name in dict.fromkeys(names)
        ),
        arena_bytes=end,
        steps=tuple(steps),
    )
    return made, blobs


def _step(stage: Stage, number: int, blobs: Blobs, architecture: str, pointer: Any) -> Step | None:
    inputs = [None if held is None else tensors.plain(held.dtype, held.shape) for held in stage.inputs]
    output = tensors.plain(stage.output.dtype, stage.output.shape)
    emitted = emit_cuda.emit([stage.computation], inputs, [output], _first_guess(stage, inputs, output))
    if emitted.kernel is None:
        return None
    cubin = blobs.add(f"kernel{number}", compiler.compile(emitted.source, architecture))
    held = [*stage.inputs, stage.output]
    arguments = []
    for argument in emitted.kernel.arguments:
        assert argument.pointer is not None
        operand = held[int(argument.pointer.name)]
        assert operand is not None
        arguments.append(Argument(pointer=pointer(operand)))
    kernel: Kernel = replace(emitted.kernel, cubin=cubin, arguments=tuple(arguments))
    return Step(layer=stage.output.name, kernel=kernel)


def _first_guess(stage: Stage, inputs: Sequence[Any], output: tensors.TensorType) -> Schedule:
    if 0 in output.shape:
        return Schedule(shape=Shape.COLUMNS)
    flat = loops([stage.computation], inputs, [output], rows=False)
    shared = loops([stage.computation], inputs, [output], rows=True)
    return schedule_kernel.schedules(flat, shared, (output,))[0]


def _bytes(value: Any) -> bytes:
    return np.ascontiguousarray(value).tobytes() or b"\0"


def _size(held: Held) -> int:
    return int(np.prod(held.shape, dtype=np.int64)) * dtype_of(held.dtype).itemsize


@cache
def _bench() -> Any:
    """This process's GPU, and the architecture to compile for."""
    from enginewright_builder.device import workshop  # needs CUDA's bindings and a GPU
    from enginewright_builder.device.session_bench import SessionBench

    return SessionBench(), workshop.describe().architecture


def by_device(path: Path, feeds: Mapping[str, Any], names: Sequence[str]) -> list[Any]:
    """Through generated kernels on the GPU."""
    bench, architecture = _bench()
    made, blobs = program(path, feeds, names, architecture)
    wanted = {tensor.name: np.ascontiguousarray(feeds[tensor.name]).reshape(tensor.shape) for tensor in made.inputs}
    with bench.opened(made, blobs.content()) as running:
        found = running.run(wanted)
    return [found[name] for name in names]


def by_plan(path: Path, feeds: Mapping[str, Any], names: Sequence[str]) -> list[Any]:
    """A whole build for this GPU to a plan file without host segments, and the engine on that."""
    if not all(isinstance(value, np.ndarray) for value in feeds.values()):
        raise Declined("an input is no tensor")
    return _by_engine(path, feeds, names, allow_host=False)


def by_plan_with_host(path: Path, feeds: Mapping[str, Any], names: Sequence[str]) -> list[Any]:
    """The same with host segments for what the GPU has no kernel for, sequences and optionals too."""
    return _by_engine(path, feeds, names, allow_host=True)


def _by_engine(path: Path, feeds: Mapping[str, Any], names: Sequence[str], *, allow_host: bool) -> list[Any]:
    free = specialize.free_inputs(from_onnx.load(path))
    shapes = {name: value.shape for name, value in feeds.items() if name in free and isinstance(value, np.ndarray)}
    destination = path.parent / "store" / "engine.plan"
    recipe = Recipe(
        model=f"sha256:{sha256(path.read_bytes()).hexdigest()}",
        shapes=(shapes,) if shapes else (),
        effort=Effort.FAST,
        allow_host=allow_host,
        target=TargetRequirement(kind=TargetKind.CUDA),
        builder=enginewright_runtime.__version__,
    )
    request = BuildRequest(recipe=recipe, model=path.as_uri(), destination=destination.as_uri())
    workdir = path.parent / "work"
    workdir.mkdir(exist_ok=True)
    try:
        build.build(request, progress=Silent(), workdir=workdir, overwrite=True)
    except UnsupportedError as error:
        raise Declined(str(error)) from error
    with Engine(destination) as engine:
        outputs = engine.infer(dict(feeds))
    return [outputs[name] for name in names]


def by_compiler(path: Path, feeds: Mapping[str, Any], names: Sequence[str]) -> list[Any]:
    """Compiled only, for sm_90a; the numbers are the reference's."""
    program(path, feeds, names, ARCHITECTURE)
    found: list[Any] = coverage.by_reference(path, feeds, names)
    return found


ARCHITECTURE = "sm_90a"
WAYS = {"kernels": by_device, "plan": by_plan, "host": by_plan_with_host, "compile": by_compiler}


def _run(arguments: tuple[str, str]) -> tuple[str, str, str]:
    name, way = arguments
    case = next(each for each in coverage.node_tests.cases() if each.name == name)
    ended = coverage.run_case(case, WAYS[way])
    return ended.name, str(ended.verdict), ended.why


def main(arguments: Sequence[str] | None = None) -> int:
    """Run all, or those whose names contain one of the words; write a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("words", nargs="*", help="only tests whose names contain one of these")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--way", choices=list(WAYS), default="kernels")
    parser.add_argument("--every", type=int, default=1, help="only each so many-th of them")
    parser.add_argument("--output", type=Path, help="write the table there too")
    parser.add_argument("--seconds", type=float, default=3600, help="stop after so many, with what is done by then")
    options = parser.parse_args(arguments)
    names = [case.name for case in coverage.node_tests.cases()]
    chosen = [name for name in names if not options.words or any(word in name for word in options.words)]
    chosen = chosen[:: options.every]
    started = time.monotonic()
    rows: list[tuple[str, str, str]] = []
    jobs = [(name, options.way) for name in chosen]
    with multiprocessing.get_context("spawn").Pool(options.jobs, maxtasksperchild=400) as pool:
        results = pool.imap_unordered(_run, jobs)
        for _ in chosen:
            try:
                rows.append(results.next(timeout=max(1.0, started + options.seconds - time.monotonic())))
            except multiprocessing.TimeoutError:
                break
        pool.terminate()
    text = table(rows, asked=len(chosen), seconds=time.monotonic() - started)
    sys.stdout.write(text)
    if options.output:
        options.output.write_text(text)
    return 0


def table(rows: Sequence[tuple[str, str, str]], *, asked: int, seconds: float) -> str:
    """Counts, and every test that does not pass with its reason, as Markdown."""
    counts = Counter(verdict for _, verdict, _ in rows)
    able = sum(count for verdict, count in counts.items() if verdict != coverage.Verdict.NOT_RUN)
    lines = [
        f"{len(rows)} of {asked} tests ran in {seconds:.0f} s.",
        "",
        "| | tests | of those that ONNX Runtime passes |",
    ]
    lines += ["|---|---|---|", f"| that ONNX Runtime passes | {able} | |"]
    for verdict in coverage.Verdict:
        if verdict != coverage.Verdict.NOT_RUN:
            lines.append(f"| {verdict} | {counts[verdict]} | {100 * counts[verdict] / max(able, 1):.1f} % |")
    for verdict in (coverage.Verdict.WRONG, coverage.Verdict.DECLINED):
        lines += ["", f"## {verdict}", ""]
        lines += [f"* `{name}`: {why}" for name, found, why in sorted(rows) if found == verdict]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
