"""An implementation run by itself on a card, its operands in memory as their types say, and such types."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from enginewright_builder.device.implementation import Implementation
from enginewright_builder.device.problem import Problem
from enginewright_builder.device.tensors import TensorType
from enginewright_runtime.engine.cuda.program import Argument, DeviceProgram, Pointer, Space, Step, Tensor
from enginewright_runtime.engine.values import dtype_of

Array = np.ndarray[Any, np.dtype[Any]]


def pixels(shape: tuple[int, int, int, int], dtype: str, step: int = 0) -> TensorType:
    """NHWC, `step` elements from one pixel to the next."""
    _, channels, height, width = shape
    step = step or channels
    return TensorType(dtype=dtype, shape=shape, strides=(height * width * step, 1, width * step, step))


def run(
    made: Implementation, problem: Problem, values: Mapping[int, Array | None], constant: frozenset[int] = frozenset()
) -> list[Array]:
    """The logical outputs, the same eagerly and from a graph, for inputs of logical shapes by number. Those of
    `constant` are packed as the implementation says."""
    from enginewright_runtime.engine.cuda.session import Session

    there = {number: value for number, value in values.items() if value is not None}
    known = {number: value for number, value in there.items() if number in constant}
    packed = {_constant(name): pack(known) for name, pack in made.constants.items()}
    given = {str(n): laid_out(_kind(problem.inputs[n]), v) for n, v in there.items() if n not in constant}
    first = len(problem.inputs)
    outputs = {str(first + number): kind for number, kind in enumerate(problem.outputs)}
    program = DeviceProgram(
        inputs=tuple(Tensor(name=n, dtype=v.dtype.name, shape=v.shape, bytes=v.nbytes) for n, v in given.items()),
        outputs=tuple(
            Tensor(name=name, dtype=kind.dtype, shape=(_elements(kind),), bytes=kind.span_bytes)
            for name, kind in outputs.items()
        ),
        arena_bytes=made.workspace_bytes,
        steps=tuple(_bound(step, first) for step in made.steps),
    )
    blobs = {**made.cubins, **{name: np.ascontiguousarray(value).tobytes() for name, value in packed.items()}}
    with Session(program, blobs) as session:
        eager, replayed = session.run(given), session.run(given, graph=True)
    for name, kind in outputs.items():
        np.testing.assert_array_equal(view(replayed[name], kind), view(eager[name], kind))
    return [np.array(view(eager[name], kind)) for name, kind in outputs.items()]


def laid_out(kind: TensorType, value: Array) -> Array:
    """Flat memory with the value in it; what lies between its elements is NaN, for it must not be read."""
    memory = np.full(kind.span_bytes, 0xFF, np.uint8).view(dtype_of(kind.dtype))
    view(memory, kind)[...] = value
    return memory


def view(memory: Array, kind: TensorType) -> Array:
    """The logical value that lies in flat memory."""
    strides = tuple(memory.itemsize * stride for stride in kind.strides)
    return np.lib.stride_tricks.as_strided(memory, kind.shape, strides)


def _elements(kind: TensorType) -> int:
    return kind.span_bytes // dtype_of(kind.dtype).itemsize


def _kind(given: TensorType | None) -> TensorType:
    assert given is not None
    return given


def _constant(name: str) -> str:
    return f"constant {name}"  # a cubin may have the same name


def _bound(step: Step, first_output: int) -> Step:
    """Operands as the program's inputs and outputs, constants as its blobs, the workspace as its arena."""

    def moved(pointer: Pointer) -> Pointer:
        match pointer.space:
            case Space.CONSTANT:
                return dataclasses.replace(pointer, space=Space.BLOB, name=_constant(pointer.name))
            case Space.OPERAND:
                space = Space.INPUT if int(pointer.name) < first_output else Space.OUTPUT
                return dataclasses.replace(pointer, space=space)
            case _:
                return dataclasses.replace(pointer, space=Space.ARENA)

    def argument(each: Argument) -> Argument:
        if each.tensor_map is not None:
            placed = dataclasses.replace(each.tensor_map, pointer=moved(each.tensor_map.pointer))
            return dataclasses.replace(each, tensor_map=placed)
        return each if each.pointer is None else dataclasses.replace(each, pointer=moved(each.pointer))

    assert step.kernel is not None
    kernel = dataclasses.replace(step.kernel, arguments=tuple(argument(each) for each in step.kernel.arguments))
    return dataclasses.replace(step, kernel=kernel)
