"""Two implementations in a row as one, for a problem that was cut in two. Pure.

What the first gives to the second lies at the beginning of the workspace; behind it is what either needs for itself.
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from enginewright_builder.device.implementation import Array, Constants, Implementation
from enginewright_builder.device.tensors import TensorType
from enginewright_runtime.engine.cuda.program import Argument, Pointer, Space, Step

_ALIGNMENT = 256  # bytes
BETWEEN = Pointer(space=Space.WORKSPACE)  # what lies between the two


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One of them. `operands` says where its operands are that have other numbers in the whole, or lie between;
    `prefix` tells its names from the other's; `known` gives its constants from the whole's where they are others."""

    made: Implementation
    operands: Mapping[str, Pointer]
    prefix: str = ""
    known: Callable[[Constants], Constants] | None = None


def operand(number: int) -> Pointer:
    """The whole's operand of that number."""
    return Pointer(space=Space.OPERAND, name=str(number))


def joined(between: TensorType, parts: Sequence[Part]) -> Implementation:
    """One implementation of all parts, in the numbering of the whole problem."""
    after = -(-between.span_bytes // _ALIGNMENT) * _ALIGNMENT
    constants: dict[str, Callable[[Constants], Array]] = {
        part.prefix + name: pack if part.known is None else functools.partial(_packed, pack, part.known)
        for part in parts
        for name, pack in part.made.constants.items()
    }
    return Implementation(
        steps=tuple(step for part in parts for step in _moved(part, after)),
        cubins={part.prefix + name: data for part in parts for name, data in part.made.cubins.items()},
        graphs={part.prefix + name: data for part in parts for name, data in part.made.graphs.items()},
        constants=constants,
        workspace_bytes=after + max(part.made.workspace_bytes for part in parts),
    )


def _packed(pack: Callable[[Constants], Array], known: Callable[[Constants], Constants], constants: Constants) -> Array:
    return pack(known(constants))


def _moved(part: Part, workspace: int) -> list[Step]:
    """A part's steps: operands by the whole's numbers, names with a prefix, its workspace behind what lies between."""

    def move(pointer: Pointer) -> Pointer:
        match pointer.space:
            case Space.OPERAND if pointer.name in part.operands:
                target = part.operands[pointer.name]
                return replace(target, offset=target.offset + pointer.offset)
            case Space.CONSTANT:
                return replace(pointer, name=part.prefix + pointer.name)
            case Space.WORKSPACE:
                return replace(pointer, offset=pointer.offset + workspace)
            case _:
                return pointer

    return [_with_pointers(step, part.prefix, move) for step in part.made.steps]


def _with_pointers(step: Step, prefix: str, move: Callable[[Pointer], Pointer]) -> Step:
    if (kernel := step.kernel) is not None:
        arguments = tuple(_argument(each, move) for each in kernel.arguments)
        return replace(step, kernel=replace(kernel, cubin=prefix + kernel.cubin, arguments=arguments))
    if (graph := step.cudnn) is not None:
        workspace = None if graph.workspace is None else move(graph.workspace)
        tensors = {uid: move(pointer) for uid, pointer in graph.tensors.items()}
        return replace(step, cudnn=replace(graph, graph=prefix + graph.graph, tensors=tensors, workspace=workspace))
    assert step.product is not None, "tactics make kernels, graphs and products alone"
    fields = {name: getattr(step.product, name) for name in ("a", "b", "c", "d", "bias", "workspace")}
    moved: dict[str, Any] = {name: move(pointer) for name, pointer in fields.items() if pointer is not None}
    return replace(step, product=replace(step.product, **moved))


def _argument(argument: Argument, move: Callable[[Pointer], Pointer]) -> Argument:
    if argument.tensor_map is not None:
        return replace(argument, tensor_map=replace(argument.tensor_map, pointer=move(argument.tensor_map.pointer)))
    return argument if argument.pointer is None else replace(argument, pointer=move(argument.pointer))
