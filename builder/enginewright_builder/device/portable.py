"""The portable tactic: a layer's stages, each a kernel generated from its expression, on any GPU.

What the stages hand to each other lies in the workspace, in C order. A layer of one stage has a candidate for every
schedule of its kernel that is worth trying; one of several stages takes each stage's best guess, or its second best.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np

from enginewright_builder.device import compile as compiler
from enginewright_builder.device import emit_cuda, fusing, schedule_kernel, splitting, stages, tensors
from enginewright_builder.device.expression import Computation
from enginewright_builder.device.implementation import Array, Candidate, Constants, Device, Implementation
from enginewright_builder.device.loops import loops
from enginewright_builder.device.lower import DeviceLayer
from enginewright_builder.device.schedule_kernel import Schedule
from enginewright_builder.device.stages import Held, Holder, Stage, Staged
from enginewright_builder.device.tensors import TensorType
from enginewright_builder.network.network import Network
from enginewright_runtime.engine.cuda.program import Argument, Kernel, Pointer, Space, Step

NAME = "generated"
_ALIGNMENT = 256  # bytes, of every temporary
_MOST = 12  # schedules of one kernel


def require(alone: Network) -> None:
    """Raises Declined where a layer has no portable form."""
    stages.staged(alone)


def candidates(layer: DeviceLayer, device: Device) -> tuple[Candidate, ...]:
    """What is worth trying, best guess first. Raises Declined where the layer has no portable form."""
    whole = fusing.fused(stages.staged(layer.network))
    parted = splitting.split(whole)
    forms = [_Form(layer=layer, staged=each) for each in ([whole] if parted is whole else [parted, whole])]
    return tuple(each for form in forms for each in _of_form(form, device))


def _of_form(form: "_Form", device: Device) -> tuple[Candidate, ...]:
    most = max((len(form.schedules(stage)) for stage in form.staged.stages), default=0)
    numbers = range(min(most, _MOST if len(form.staged.stages) == 1 else 2))
    return tuple(
        Candidate(tactic=NAME, name=form.name(number), build=partial(form.build, number, device)) for number in numbers
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Form:
    """A layer with its stages."""

    layer: DeviceLayer
    staged: Staged
    _known: dict[int, list[Schedule]] = field(default_factory=dict, init=False)

    def schedules(self, stage: Stage) -> list[Schedule]:
        """Worth trying for a stage's kernel, best guess first; found once."""
        if id(stage) not in self._known:
            self._known[id(stage)] = _schedules(stage.computation, *self._types(stage))
        return self._known[id(stage)]

    def name(self, number: int) -> str:
        """The schedules of the stages' kernels."""
        return "; ".join(self._pick(stage, number).name for stage in self.staged.stages)

    def build(self, number: int, device: Device) -> Implementation:
        """The kernels, compiled."""
        offsets, size = self._temporaries()
        steps: list[Step] = []
        cubins: dict[str, bytes] = {}
        for stage in self.staged.stages:
            inputs, output = self._types(stage)
            known = frozenset(
                place for place, each in enumerate(stage.inputs) if each is not None and self._is_there(each)
            )
            made = emit_cuda.emit([stage.computation], inputs, [output], self._pick(stage, number), constant=known)
            if made.kernel is None:
                continue
            cubin = f"{len(cubins)}"
            cubins[cubin] = compiler.compile(made.source, device.architecture, roomier=made.roomier)
            pointers = [self._pointer(each, offsets) for each in (*stage.inputs, stage.output) if each is not None]
            steps.append(_step(made.kernel, cubin, pointers, device))
        return Implementation(
            steps=tuple(steps),
            cubins=cubins,
            constants={name: partial(_constant, array) for name, array in self.staged.constants.items()},
            workspace_bytes=size,
        )

    def _pick(self, stage: Stage, number: int) -> Schedule:
        found = self.schedules(stage)
        return found[min(number, len(found) - 1)]

    def _types(self, stage: Stage) -> tuple[list[TensorType | None], TensorType]:
        return [None if each is None else self._type(each) for each in stage.inputs], self._type(stage.output)

    def _type(self, held: Held) -> TensorType:
        if held.holder is Holder.OPERAND:
            return self._operand(held.name)[1]
        return tensors.plain(held.dtype, held.shape)

    def _is_there(self, held: Held) -> bool:
        """Whether a tensor is one that no kernel writes."""
        stored = held.holder is Holder.OPERAND and self._operand(held.name)[0] in self.layer.stored
        return stored or held.holder is Holder.CONSTANT

    def _operand(self, name: str) -> tuple[int, TensorType]:
        """An operand's number and how it lies: as it is in memory, not as a product may see it."""
        number = (*self.layer.inputs, *self.layer.outputs).index(name)
        return number, self.layer.types[name]

    def _pointer(self, held: Held, offsets: Mapping[str, int]) -> Pointer:
        match held.holder:
            case Holder.OPERAND:
                return Pointer(space=Space.OPERAND, name=str(self._operand(held.name)[0]))
            case Holder.CONSTANT:
                return Pointer(space=Space.CONSTANT, name=held.name)
            case _:
                return Pointer(space=Space.WORKSPACE, offset=offsets[held.name])

    def _temporaries(self) -> tuple[dict[str, int], int]:
        offsets: dict[str, int] = {}
        end = 0
        for stage in self.staged.stages:
            if stage.output.holder is Holder.TEMPORARY:
                offsets[stage.output.name] = end
                size = tensors.plain(stage.output.dtype, stage.output.shape).span_bytes
                end += -(-size // _ALIGNMENT) * _ALIGNMENT
        return offsets, end


def implementation(
    computation: Computation, inputs: Sequence[TensorType], output: TensorType, device: Device
) -> Implementation:
    """The best guess for one computation, over operands numbered as it loads them, its output behind them."""
    made = emit_cuda.emit([computation], inputs, [output], _schedules(computation, inputs, output)[0])
    if made.kernel is None:
        return Implementation(steps=())
    pointers = [Pointer(space=Space.OPERAND, name=str(number)) for number in range(len(inputs) + 1)]
    return Implementation(
        steps=(_step(made.kernel, "0", pointers, device),),
        cubins={"0": compiler.compile(made.source, device.architecture, roomier=made.roomier)},
    )


def _schedules(computation: Computation, inputs: Sequence[TensorType | None], output: TensorType) -> list[Schedule]:
    if 0 in output.shape:
        return [Schedule(shape=schedule_kernel.Shape.COLUMNS)]
    flat = loops([computation], inputs, [output], rows=False)
    shared = loops([computation], inputs, [output], rows=True)
    return schedule_kernel.schedules(flat, shared, (output,))


def _step(kernel: Kernel, cubin: str, pointers: Sequence[Pointer], device: Device) -> Step:
    """The kernel over these pointers, which are in the order of its arguments."""
    arguments = tuple(Argument(pointer=pointer) for pointer in pointers)
    assert len(arguments) == len(kernel.arguments), f"{len(kernel.arguments)} arguments, {len(arguments)} pointers"
    return Step(layer="", kernel=replace(kernel, cubin=cubin, arguments=arguments, dependent=device.overlaps))


def _constant(array: Array, _constants: Constants) -> Array:
    return np.ascontiguousarray(array).reshape(array.shape)
