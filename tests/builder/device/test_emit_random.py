"""Random expressions over operands of random strides, with every schedule, against the reference."""

import numpy as np
import pytest
from cuda_on_host import running

from enginewright_builder.device import reference
from enginewright_builder.device.emit_cuda import emit
from enginewright_builder.device.expression import (
    Axis,
    Call,
    Cast,
    Computation,
    Constant,
    Expression,
    Index,
    Load,
    Reduction,
    Select,
)
from enginewright_builder.device.loops import loops
from enginewright_builder.device.schedule_kernel import schedules
from enginewright_builder.device.tensors import TensorType

COUNT = 60
F = "float32"


class Maker:
    """One random case: operands are made as loads ask for them."""

    def __init__(self, seed: int) -> None:
        self.random = np.random.default_rng(seed)
        self.inputs: list[TensorType] = []
        self.axes = 0
        shape = tuple(int(self.pick((1, 2, 3, 4, 6, 8, 16, 24))) for _ in range(int(self.random.integers(1, 4))))
        self.extents = {f"i{n}": extent for n, extent in enumerate(shape)}
        value = self.expression(3, dict(self.extents))
        self.computation = Computation(shape=shape, dtype=str(self.pick(("float16", "float32"))), value=value)
        self.output = self.tensor(self.computation.dtype, shape, gaps=True)

    def pick(self, choices):
        return choices[int(self.random.integers(len(choices)))]

    def tensor(self, dtype: str, shape: tuple[int, ...], gaps: bool) -> TensorType:
        """Any order of dimensions, rows sometimes wider than they need to be."""
        order = self.random.permutation(len(shape)) if self.random.random() < 0.5 else np.arange(len(shape))
        strides, step = [0] * len(shape), 1
        for axis in reversed(order):
            strides[axis] = step
            step *= shape[axis]
            if gaps and self.random.random() < 0.3:
                step += int(self.pick((1, 8)))
        return TensorType(dtype=dtype, shape=shape, strides=tuple(strides))

    def index(self, names: dict[str, int]) -> tuple[Expression, int]:
        """An index and an extent that it stays below."""
        name = str(self.pick(list(names)))
        extent, own = names[name], Index(name)
        match int(self.random.integers(6)):
            case 0:
                return Constant(0, "int32"), 1
            case 1:  # reversed
                return Call("-", (Constant(extent - 1, "int32"), own), "int32"), extent
            case 2:  # repeated
                return Call("floordiv", (own, Constant(2, "int32")), "int32"), (extent + 1) // 2
            case 3 if len(names) > 1:  # two in one
                other = str(self.pick([each for each in names if each != name]))
                whole = Call("*", (own, Constant(names[other], "int32")), "int32")
                return Call("+", (whole, Index(other)), "int32"), extent * names[other]
            case _:
                return own, extent

    def load(self, names: dict[str, int]) -> Expression:
        rank = int(self.random.integers(1, 4))
        indices, shape = zip(*(self.index(names) for _ in range(rank)), strict=True)
        if self.random.random() < 0.5:  # as networks mostly do: like the output
            indices, shape = tuple(Index(name) for name in names), tuple(names.values())
        self.inputs.append(self.tensor(str(self.pick(("float16", "float32"))), shape, gaps=True))
        return Load(len(self.inputs) - 1, indices, F)

    def expression(self, depth: int, names: dict[str, int]) -> Expression:
        if depth == 0:
            return self.load(names)
        match int(self.random.integers(8)):
            case 0:
                return Call("max", (self.expression(depth - 1, names), Constant(0.0, F)), F)
            case 1:
                return Call("tanh", (self.expression(depth - 1, names),), F)
            case 2:
                name = str(self.pick(list(names)))
                condition = Call("<", (Index(name), Constant(int(self.random.integers(0, 9)), "int32")), "bool")
                return Select(condition, self.expression(depth - 1, names), self.expression(depth - 1, names))
            case 3:
                condition = Call("<", (self.load(names), Constant(0.0, F)), "bool")
                return Select(condition, self.expression(depth - 1, names), Cast(Index(str(self.pick(list(names)))), F))
            case 4 | 5:
                return self.reduction(depth, names)
            case _:
                shared = self.expression(depth - 1, names)
                return Call("+", (shared, Call("*", (shared, self.load(names)), F)), F)

    def reduction(self, depth: int, names: dict[str, int]) -> Expression:
        """Over rows (what an index of the output runs over), or over something else."""
        self.axes += 1
        axis = f"a{self.axes}"
        name = str(self.pick(list(names)))
        row = self.random.random() < 0.6
        extent = names[name] if row else int(self.pick((3, 8, 16)))
        left = {each: names[each] for each in names if not (row and each == name)}
        body = self.expression(depth - 1, {**left, axis: extent})
        return Reduction(str(self.pick(("sum", "max", "min"))), (Axis(axis, extent),), body, F)


@pytest.fixture(scope="module")
def made():
    """All cases with the kernels of their schedules, built in one go."""
    result = {}
    for seed in range(COUNT):
        case = Maker(seed)
        given = ([case.computation], case.inputs, [case.output])
        flat, shared = loops(*given, rows=False), loops(*given, rows=True)
        found = schedules(flat, shared, (case.output,))
        result[seed] = case, [(each.name, emit(*given, each)) for each in found[:: max(1, len(found) // 5)]]
    running.prepare((each.source, each.kernel.function) for _, kernels in result.values() for _, each in kernels)
    return result


@pytest.mark.parametrize("seed", range(COUNT))
def test_a_random_expression_computes_what_it_means(seed, made):
    case, kernels = made[seed]
    random = np.random.default_rng(seed)
    arrays = [random.standard_normal(kind.shape).astype(kind.dtype) for kind in case.inputs]
    want = reference.evaluate(case.computation, arrays).astype(np.float64)
    for name, each in kernels:
        (got,) = running.outputs_of(each, case.inputs, [case.output], arrays)
        scale = 2e-3 if case.output.dtype == "float16" else 2e-5
        np.testing.assert_allclose(got, want, rtol=scale, atol=scale * max(1.0, np.abs(want).max()), err_msg=name)
