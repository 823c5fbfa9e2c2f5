"""cuDNN's graph engines as candidates: every engine and setting that its heuristics name for a fused layer.

A candidate is an engine's number with its knobs, and its name says both ("engine 34, TILE_SIZE 2, STAGES 3"), so that
the name alone makes the same plan again. Building one compiles it if need be and serializes it; the plan carries those
bytes. This module asks NVIDIA's package `cudnn`, on the device that is built for, and nothing when it is not there.
"""

import functools
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from enginewright_builder.device.implementation import Candidate, Device, Implementation
from enginewright_builder.device.problem import Problem
from enginewright_builder.tactics.cudnn_frontend import described
from enginewright_builder.tactics.cudnn_graph import WEIGHTS, GraphSketch, packed_channels_last, sketch
from enginewright_runtime.engine.cuda.cudnn import frontend
from enginewright_runtime.engine.cuda.program import CudnnGraph, Pointer, Space, Step
from enginewright_runtime.errors import UnsupportedError

_BACKEND_ENGINES = 10_000  # numbers from here on are engines of the frontend's own, compiled when they are loaded
_VARIED = 2  # engines whose best guess is varied knob by knob
_VALUES = 32  # of a knob, at the most
_UNNAMED = "NOT_SET"  # what the frontend calls a knob that it does not know
_GRAPH = "graph"
_NAME = re.compile(r"engine (\d+)(?:, (.+))?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Configuration:
    """An engine and its knobs by their names: what a candidate's name says."""

    engine: int
    knobs: Mapping[str, int]

    @property
    def name(self) -> str:
        """The same for the same configuration, whatever the order of the knobs."""
        return ", ".join((f"engine {self.engine}", *(f"{knob} {value}" for knob, value in sorted(self.knobs.items()))))


def parse(name: str) -> Configuration:
    """The configuration that a candidate's name says. Raises UnsupportedError where it says none."""
    match = _NAME.fullmatch(name)
    if match is None:
        raise UnsupportedError(f"{name!r} names no engine of cuDNN: remove it from the timing cache.")
    knobs = dict(pair.rsplit(" ", 1) for pair in (match[2] or "").split(", ") if pair)
    return Configuration(engine=int(match[1]), knobs={knob: int(value) for knob, value in knobs.items()})


class CudnnTactic:
    """A Tactic (device/implementation.py): convolutions, products and attention in float16, bfloat16, float32."""

    name = "cudnn"
    reason = "NVIDIA's library: good kernels for every convolution, and the rival that ours have to beat"

    def candidates(self, problem: Problem, device: Device, constant: frozenset[int]) -> tuple[Candidate, ...]:
        """In the order in which cuDNN's own heuristics expect them to be fast."""
        drawn = sketch(problem, constant) if self.name in device.libraries else None
        if drawn is None:
            return ()
        return tuple(self._candidate(drawn, each) for each in _configurations(drawn))

    def named(self, problem: Problem, constant: frozenset[int], name: str) -> Candidate:
        """The candidate of that name, without asking the heuristics. Raises UnsupportedError where there is none."""
        drawn = sketch(problem, constant)
        if drawn is None:
            raise UnsupportedError(
                f"cuDNN has no graph for this {problem.kind}: remove {name!r} from the timing cache."
            )
        return self._candidate(drawn, parse(name))

    def _candidate(self, drawn: GraphSketch, configuration: Configuration) -> Candidate:
        """Engines of 8-bit integers have crashed the process: no sketch asks for one."""
        build = functools.partial(implementation, drawn, configuration)
        return Candidate(tactic=self.name, name=configuration.name, build=build, serial=True)


def implementation(drawn: GraphSketch, configuration: Configuration) -> Implementation:
    """Compile and serialize one configuration. Raises UnsupportedError where cuDNN does not take it."""
    cudnn = frontend()
    try:
        graph = described(drawn)
        graph.deselect_numeric_notes(_unwanted(drawn))
        index = _planned(graph, configuration)
        graph.build_plan_at_index(index)
        size = int(graph.get_workspace_size_plan_at_index(index))
        data = bytes(graph.serialize())
    except (cudnn.cudnnGraphNotSupportedError, RuntimeError, ValueError, AttributeError) as error:
        raise UnsupportedError(
            f"cuDNN does not take {configuration.name} for this layer ({error}): try another."
        ) from error
    record = CudnnGraph(
        graph=_GRAPH,
        tensors={str(tensor.uid): tensor.pointer for tensor in drawn.tensors},
        workspace=Pointer(space=Space.WORKSPACE) if size else None,
        workspace_bytes=size,
    )
    return Implementation(
        steps=(Step(layer="", cudnn=record),),
        graphs={_GRAPH: data},
        constants={WEIGHTS: packed_channels_last} if drawn.pack else {},
        workspace_bytes=size,
    )


def _planned(graph: Any, configuration: Configuration) -> int:
    """Where the configuration stands among the graph's plans. Raises ValueError where cuDNN names it no more."""
    cudnn = frontend()
    if _UNNAMED not in configuration.knobs:
        knobs = {getattr(cudnn.knob_type, knob): value for knob, value in configuration.knobs.items()}
        graph.create_execution_plan(configuration.engine, knobs)
        return 0
    # The frontend has no name for a knob of this engine, so it can't be asked for: the heuristics must name it again.
    graph.create_execution_plans(_modes())
    for index, found in enumerate(_listed(graph)):
        if found == configuration:
            return index
    raise ValueError("the heuristics do not name it")


def _configurations(drawn: GraphSketch) -> Iterator[Configuration]:
    """Each once: what the heuristics name, then the neighbours of the best guesses."""
    cudnn = frontend()
    try:
        graph = described(drawn)
        graph.create_execution_plans(_modes())
    except (cudnn.cudnnGraphNotSupportedError, RuntimeError, ValueError):
        return  # no engine takes such a graph: the tactic does not apply
    best: dict[int, Configuration] = {}  # of each engine
    for each in _listed(graph):
        best.setdefault(each.engine, each)
    barred = {engine for engine, each in best.items() if engine >= _BACKEND_ENGINES or not _allows(drawn, each)}
    named = {each.name: each for each in _listed(graph) if each.engine not in barred}
    yield from named.values()
    for engine in [engine for engine in best if engine not in barred][:_VARIED]:
        near = _neighbours(best[engine], graph.get_knobs_for_engine(engine))
        yield from (each for each in near if each.name not in named)


def _allows(drawn: GraphSketch, configuration: Configuration) -> bool:
    """Whether the engine's arithmetic is what the layer asks for, which its knobs don't change. Nothing is compiled.

    Only float32 has engines that are not: without asking, they fill the list, and a build of each says so too late.
    """
    cudnn = frontend()
    if drawn.first.dtype != "float32":
        return True
    knobs = {knob: value for knob, value in configuration.knobs.items() if knob != _UNNAMED}
    try:
        graph = described(drawn)
        graph.deselect_numeric_notes(_unwanted(drawn))
        graph.create_execution_plan(
            configuration.engine, {getattr(cudnn.knob_type, knob): value for knob, value in knobs.items()}
        )
        graph.check_support()
    except (cudnn.cudnnGraphNotSupportedError, RuntimeError, ValueError, AttributeError):
        return False
    return True


def _modes() -> list[Any]:
    """Mode A is the best guess, B the wider search, the fallbacks take anything."""
    modes = frontend().heur_mode
    return [modes.A, modes.B, modes.FALLBACK]


def _listed(graph: Any) -> Iterator[Configuration]:
    for index in range(graph.get_execution_plan_count()):
        engine, knobs = graph.get_engine_and_knobs_at_index(index)
        yield Configuration(engine=engine, knobs={knob.name: int(value) for knob, value in knobs.items()})


def _neighbours(configuration: Configuration, knobs: Iterable[Any]) -> Iterator[Configuration]:
    """The same engine with one knob at another of its values: what lies beside the heuristics' own grid."""
    for knob in knobs:
        name, step = knob.type.name, max(int(knob.stride), 1)
        if name in configuration.knobs and name != _UNNAMED:
            for value in range(int(knob.min_value), int(knob.max_value) + 1, step)[:_VALUES]:
                if value != configuration.knobs[name]:
                    yield Configuration(engine=configuration.engine, knobs={**configuration.knobs, name: value})


def _unwanted(drawn: GraphSketch) -> list[Any]:
    """Kinds of arithmetic that are not what the layer asks for; results must also be the same every time."""
    notes = frontend().numerical_note
    unwanted = [notes.NONDETERMINISTIC]
    if drawn.first.dtype == "float32" and drawn.math != "tf32":
        unwanted += [notes.TENSOR_CORE, notes.DOWN_CONVERT_INPUTS, notes.REDUCED_PRECISION_REDUCTION]
    return unwanted
