"""Computations that stand for what networks ask of generated kernels, by name, with operand types and inputs."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

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
from enginewright_builder.device.tensors import TensorType, channels_last, plain
from enginewright_runtime.engine.values import dtype_of as numpy_dtype

F = "float32"


@dataclass(frozen=True, kw_only=True)
class Case:
    """One or more computations of one shape. `high` bounds integer inputs, which may be positions."""

    name: str
    computations: tuple[Computation, ...]
    inputs: tuple[TensorType, ...]
    outputs: tuple[TensorType, ...]
    high: int = 100

    def arrays(self, seed: int = 0) -> list[np.ndarray]:
        """Random inputs of logical shapes."""
        return [self._array(kind, np.random.default_rng(seed + n)) for n, kind in enumerate(self.inputs)]

    def _array(self, kind: TensorType, random: np.random.Generator) -> np.ndarray:
        if "float" in kind.dtype:
            return random.standard_normal(kind.shape).astype(numpy_dtype(kind.dtype))
        if kind.dtype == "bool":
            return random.random(kind.shape) < 0.5
        return random.integers(0, self.high, kind.shape).astype(kind.dtype)


def at(rank: int) -> list[Expression]:
    """The output's indices."""
    return [Index(f"i{n}") for n in range(rank)]


def number(value: float, dtype: str = F) -> Constant:
    return Constant(value, dtype)


def whole(value: int) -> Constant:
    return Constant(value, "int32")


def f(function: str, *arguments: Expression, dtype: str = F) -> Expression:
    """A call that gives float32."""
    return Call(function, arguments, dtype)


def i(function: str, *arguments: Expression) -> Expression:
    """A call over indices."""
    return Call(function, arguments, "int32")


def b(function: str, *arguments: Expression) -> Expression:
    """A call that gives a condition."""
    return Call(function, arguments, "bool")


def total(function: str, name: str, extent: int, body: Callable[[Index], Expression]) -> Expression:
    """A reduction over one axis."""
    return Reduction(function, (Axis(name, extent),), body(Index(name)), F)


def nhwc(shape: tuple[int, ...], dtype: str = "float16") -> TensorType:
    return TensorType(dtype=dtype, shape=shape, strides=channels_last(shape))


def one(name: str, value: Expression, inputs: list[TensorType], output: TensorType, high: int = 100) -> Case:
    """A case of one output."""
    made = Computation(shape=output.shape, dtype=output.dtype, value=value)
    return Case(name=name, computations=(made,), inputs=tuple(inputs), outputs=(output,), high=high)


def add_relu(shape: tuple[int, ...], kind: Callable[..., TensorType] = nhwc, dtype: str = "float16") -> Case:
    x, y = Load(0, tuple(at(len(shape))), F), Load(1, tuple(at(len(shape))), F)
    t = kind(shape, dtype) if kind is nhwc else kind(dtype, shape)
    return one(f"add_relu {shape} {dtype} {kind.__name__}", f("max", f("+", x, y), number(0)), [t, t], t)


def bias_gelu(rows: int, columns: int) -> Case:
    x = f("+", Load(0, tuple(at(2)), F), Load(1, (Index("i1"),), F))
    gelu = f("*", f("*", x, number(0.5)), f("+", number(1), f("erf", f("*", x, number(math.sqrt(0.5))))))
    t = plain("float16", (rows, columns))
    return one(f"bias_gelu {rows}x{columns}", gelu, [t, plain("float16", (columns,))], t)


def softmax(shape: tuple[int, ...], dtype: str = "float16") -> Case:
    row = at(len(shape))[:-1]

    def x(j: Expression) -> Expression:
        return Load(0, (*row, j), F)

    top = total("max", "r", shape[-1], x)
    bottom = total("sum", "q", shape[-1], lambda j: f("exp", f("-", x(j), top)))
    value = f("/", f("exp", f("-", x(Index(f"i{len(shape) - 1}")), top)), bottom)
    t = plain(dtype, shape)
    return one(f"softmax {shape} {dtype}", value, [t], t)


def layer_norm(rows: int, columns: int, dtype: str = "float16", residual: bool = False) -> Case:
    def x(j: Expression) -> Expression:
        loaded = Load(0, (Index("i0"), j), F)
        return f("+", loaded, Load(3, (Index("i0"), j), F)) if residual else loaded

    j = Index("i1")
    n = number(float(columns))
    mean = f("/", total("sum", "m", columns, x), n)
    variance = f("/", total("sum", "v", columns, lambda k: f("*", f("-", x(k), mean), f("-", x(k), mean))), n)
    scale = f("/", number(1), f("sqrt", f("+", variance, number(1e-5))))
    value = f("+", f("*", f("*", f("-", x(j), mean), scale), Load(1, (j,), F)), Load(2, (j,), F))
    t, w = plain(dtype, (rows, columns)), plain(dtype, (columns,))
    name = f"layer_norm {rows}x{columns} {dtype}{' residual' if residual else ''}"
    return one(name, value, [t, w, w, *([t] if residual else [])], t)


def global_mean(n: int, c: int, h: int, w: int, last: bool) -> Case:
    body = Load(0, (Index("i0"), Index("i1"), Index("y"), Index("x")), F)
    value = f("/", Reduction("sum", (Axis("y", h), Axis("x", w)), body, F), number(float(h * w)))
    t = nhwc((n, c, h, w)) if last else plain("float16", (n, c, h, w))
    return one(f"global_mean {(n, c, h, w)} {'nhwc' if last else 'nchw'}", value, [t], plain("float16", (n, c)))


def instance_norm(n: int, c: int, h: int, w: int, last: bool) -> Case:
    def x(y: Expression, z: Expression) -> Expression:
        return Load(0, (Index("i0"), Index("i1"), y, z), F)

    axes = (Axis("y", h), Axis("x", w))
    area = number(float(h * w))
    mean = f("/", Reduction("sum", axes, x(Index("y"), Index("x")), F), area)
    off = f("-", x(Index("y"), Index("x")), mean)
    variance = f("/", Reduction("sum", axes, f("*", off, off), F), area)
    value = f("/", f("-", x(Index("i2"), Index("i3")), mean), f("sqrt", f("+", variance, number(1e-5))))
    t = nhwc((n, c, h, w)) if last else plain("float16", (n, c, h, w))
    return one(f"instance_norm {(n, c, h, w)} {'nhwc' if last else 'nchw'}", value, [t], t)


def max_pool(n: int, c: int, size: int, kernel: int, stride: int, pad: int, last: bool = True) -> Case:
    out = (size + 2 * pad - kernel) // stride + 1
    y = i("-", i("+", i("*", Index("i2"), whole(stride)), Index("r")), whole(pad))
    x = i("-", i("+", i("*", Index("i3"), whole(stride)), Index("s")), whole(pad))
    inside = b("and", _within(y, size), _within(x, size))
    body = Select(inside, Load(0, (Index("i0"), Index("i1"), y, x), F), number(-math.inf))
    value = Reduction("max", (Axis("r", kernel), Axis("s", kernel)), body, F)
    kind = nhwc if last else lambda shape: plain("float16", shape)
    name = f"max_pool {(n, c, size)} k{kernel} s{stride} p{pad} {'nhwc' if last else 'nchw'}"
    return one(name, value, [kind((n, c, size, size))], kind((n, c, out, out)))


def _within(index: Expression, extent: int) -> Expression:
    return b("and", b("<=", whole(0), index), b("<", index, whole(extent)))


def transpose(shape: tuple[int, ...], order: tuple[int, ...], dtype: str = "float16") -> Case:
    indices = [Index(f"i{order.index(n)}") for n in range(len(shape))]
    made = plain(dtype, tuple(shape[each] for each in order))
    return one(f"transpose {shape} {order} {dtype}", Load(0, tuple(indices), _held(dtype)), [plain(dtype, shape)], made)


def to_channels_last(shape: tuple[int, ...], dtype: str = "float32") -> Case:
    value = Load(0, tuple(at(len(shape))), F)
    return one(f"to_nhwc {shape} {dtype}->float16", value, [plain(dtype, shape)], nhwc(shape))


def _held(dtype: str) -> str:
    return F if dtype in ("float16", "bfloat16") or dtype.startswith("float8") else dtype


def resize(n: int, c: int, size: int, scale: int) -> Case:
    """Linear, half pixel."""
    big = size * scale

    def source(name: str) -> tuple[Expression, Expression, Expression]:
        place = f("-", f("/", f("+", Cast(Index(name), F), number(0.5)), number(float(scale))), number(0.5))
        low = f("floor", place)
        first = Cast(low, "int32")
        top = whole(size - 1)
        clamped = i("min", i("max", first, whole(0)), top)
        after = i("min", i("max", i("+", first, whole(1)), whole(0)), top)
        return clamped, after, f("-", place, low)

    (y0, y1, v), (x0, x1, u) = source("i2"), source("i3")

    def x(a: Expression, c_: Expression) -> Expression:
        return Load(0, (Index("i0"), Index("i1"), a, c_), F)

    def mix(p: Expression, q: Expression, share: Expression) -> Expression:
        return f("+", p, f("*", f("-", q, p), share))

    value = mix(mix(x(y0, x0), x(y0, x1), u), mix(x(y1, x0), x(y1, x1), u), v)
    return one(f"resize {(n, c, size)} x{scale}", value, [nhwc((n, c, size, size))], nhwc((n, c, big, big)))


def concat(n: int, first: int, second: int, size: int) -> Case:
    rest = (Index("i2"), Index("i3"))
    low = Load(0, (Index("i0"), Index("i1"), *rest), F)
    high = Load(1, (Index("i0"), i("-", Index("i1"), whole(first)), *rest), F)
    value = Select(b("<", Index("i1"), whole(first)), low, high)
    kinds = [nhwc((n, each, size, size)) for each in (first, second)]
    return one(f"concat {n} {first}+{second} {size}", value, kinds, nhwc((n, first + second, size, size)))


def reshape_transpose(batch: int, tokens: int, heads: int, width: int) -> Case:
    """(b, t, h*w) -> (b, h, t, w), the index written as reshapes write it."""
    flat = i("+", i("*", Index("i1"), whole(width)), Index("i3"))
    place = i("+", i("*", Index("i2"), whole(heads * width)), flat)
    row, column = i("floordiv", place, whole(heads * width)), i("mod", place, whole(heads * width))
    value = Load(0, (Index("i0"), row, column), F)
    shape = (batch, heads, tokens, width)
    source = plain("float16", (batch, tokens, heads * width))
    return one(f"reshape_transpose {shape}", value, [source], plain("float16", shape))


def gather(rows: int, width: int, picks: int) -> Case:
    value = Load(0, (Cast(Load(1, (Index("i0"),), "int64"), "int32"), Index("i1")), F)
    kinds = [plain("float16", (rows, width)), plain("int64", (picks,))]
    return one(f"gather {rows}x{width} {picks}", value, kinds, plain("float16", (picks, width)), high=rows)


def arg_max(rows: int, columns: int) -> Case:
    body = Load(0, (Index("i0"), Index("k")), F)
    value = Reduction("argmax", (Axis("k", columns),), body, "int64")
    return one(f"arg_max {rows}x{columns}", value, [plain("float16", (rows, columns))], plain("int64", (rows,)))


def mean_all(count: int) -> Case:
    value = f("/", total("sum", "k", count, lambda k: Load(0, (k,), F)), number(float(count)))
    return one(f"mean_all {count}", value, [plain(F, (count,))], plain(F, ()))


def two_outputs(rows: int, columns: int) -> Case:
    x = Load(0, tuple(at(2)), F)
    t = plain("float16", (rows, columns))
    values = (f("tanh", x), f("*", x, x))
    made = tuple(Computation(shape=t.shape, dtype=t.dtype, value=value) for value in values)
    return Case(name=f"two_outputs {rows}x{columns}", computations=made, inputs=(t,), outputs=(t, t))


def small() -> list[Case]:
    """Odd and quick: for tests on the host."""
    return [
        add_relu((2, 24, 5, 7)), add_relu((3, 7, 3, 5)), add_relu((2, 6, 5, 4), plain, "float32"),
        add_relu((1, 8, 2, 2), plain, "bfloat16"), bias_gelu(3, 40), softmax((3, 1000)), softmax((2, 3, 7)),
        softmax((5, 64), "float32"), layer_norm(3, 768), layer_norm(2, 100, "float32"),
        layer_norm(2, 96, residual=True),
        global_mean(2, 24, 7, 7, True), global_mean(2, 5, 7, 7, False), instance_norm(2, 8, 5, 4, True),
        instance_norm(2, 3, 5, 7, False), max_pool(2, 16, 9, 3, 2, 1), max_pool(1, 3, 9, 3, 2, 1, False),
        transpose((3, 5, 7), (2, 0, 1)), transpose((40, 33), (1, 0), "int8"), to_channels_last((2, 3, 9, 7)),
        resize(1, 8, 5, 2), concat(2, 8, 16, 3), concat(1, 5, 6, 3), reshape_transpose(2, 6, 4, 8), gather(9, 24, 5),
        arg_max(4, 77), mean_all(5000), two_outputs(3, 16), transpose((70, 66), (1, 0)),
        transpose((2, 36, 40), (0, 2, 1), "float32"), to_channels_last((2, 24, 9, 7)), instance_norm(1, 24, 9, 5, True),
    ]  # fmt: skip


def large() -> list[Case]:
    """As networks have them: for timing."""
    return [
        add_relu((1, 256, 56, 56)), add_relu((128, 256, 56, 56)), add_relu((8, 512, 28, 28)),
        add_relu((32, 256, 56, 56), plain, "float32"), bias_gelu(128, 3072), bias_gelu(16384, 3072),
        softmax((128, 1000)), softmax((12, 128, 128)), softmax((96, 128, 128)), softmax((96, 512, 512)),
        softmax((128, 1000), "float32"), softmax((4096, 50257)),
        layer_norm(128, 768), layer_norm(1024, 768), layer_norm(16384, 768), layer_norm(16384, 768, residual=True),
        layer_norm(4096, 4096), layer_norm(128, 768, "float32"),
        global_mean(1, 2048, 7, 7, True), global_mean(128, 2048, 7, 7, True), global_mean(128, 2048, 7, 7, False),
        instance_norm(8, 64, 128, 128, True), instance_norm(8, 64, 128, 128, False),
        max_pool(1, 64, 112, 3, 2, 1), max_pool(128, 64, 112, 3, 2, 1), max_pool(32, 64, 112, 3, 2, 1, False),
        max_pool(8, 192, 35, 3, 1, 1),
        transpose((64, 512, 64), (0, 2, 1)), transpose((4096, 4096), (1, 0)), to_channels_last((1, 3, 224, 224)),
        to_channels_last((128, 3, 224, 224)), to_channels_last((32, 256, 56, 56)),
        resize(8, 64, 56, 2), concat(8, 96, 64, 35), concat(8, 90, 61, 35), reshape_transpose(8, 128, 12, 64),
        gather(30522, 768, 128), gather(30522, 768, 16384), arg_max(128, 1000), mean_all(1 << 24),
        two_outputs(16384, 1024),
    ]  # fmt: skip
