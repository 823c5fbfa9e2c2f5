"""Every pass of the GPU's pipeline before and after: on the card, the network without it and the one with it compute
what ONNX Runtime does with the untouched model."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import whole_network

from enginewright_builder import passes
from enginewright_builder.device.implementation import Device
from enginewright_builder.passes import Pass
from enginewright_runtime.plan.recipe import Precision

Array = np.ndarray[Any, np.dtype[Any]]
RANDOM = np.random.default_rng(37)
ALLOWED = {Precision.FP32: 1e-4, Precision.FP16: 1e-2}  # of an output's largest value
NUMBERS = {"half": 0.5, "one": 1.0, "two": 2.0, "root": np.sqrt(2.0), "epsilon": 1e-5, "eighth": 0.125}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Case:
    """A network in which a pass finds something to do; inputs as name: shape, constants as name: array."""

    inputs: dict[str, tuple[int, ...]]
    outputs: dict[str, str]
    body: str
    constants: dict[str, Array] = dataclasses.field(default_factory=dict)
    precision: Precision = Precision.FP32

    @property
    def text(self) -> str:
        """In ONNX's text form."""
        taken = ", ".join(f"float[{','.join(map(str, shape))}] {name}" for name, shape in self.inputs.items())
        given = ", ".join(f"float[{shape}] {name}" for name, shape in self.outputs.items())
        return f'<ir_version: 8, opset_import: ["" : 17]> agraph ({taken}) => ({given}) {{ {self.body} }}'

    def feed(self) -> dict[str, Array]:
        """The same numbers every time."""
        random = np.random.default_rng(5)
        return {name: random.standard_normal(shape).astype(np.float32) for name, shape in self.inputs.items()}


def floats(*shape: int) -> Array:
    """Such that a sum over all but the first dimension is about as large as one term."""
    made: Array = RANDOM.standard_normal(shape).astype(np.float32) / np.float32(np.sqrt(np.prod(shape[1:])))
    return made


def numbers(*names: str) -> dict[str, Array]:
    return {name: np.array(NUMBERS[name], np.float32) for name in names}


PICTURE = {"x": (3, 8, 7, 7)}
ROWS = {"x": (2, 7, 64)}
WEIGHTS = {"w": floats(8, 8, 3, 3), "k": floats(8)}
PADDED = "Conv<pads = [1, 1, 1, 1]>"
HALF = Precision.FP16
CASES = {
    "unread": Case(inputs=ROWS, outputs={"y": "2,7,64"}, body="a = Exp(x) y = Neg(x)"),
    "fold-constants": Case(
        inputs=ROWS, outputs={"y": "2,7,64"}, body="c = Add(k, l) y = Mul(x, c)",
        constants={"k": floats(64), "l": floats(64)},
    ),
    "no-ops": Case(inputs=ROWS, outputs={"y": "2,7,64"}, body="a = Identity(x) b = Mul(a, one) y = Neg(b)",
                   constants=numbers("one")),
    "common-subexpressions": Case(
        inputs=ROWS, outputs={"y": "2,7,64", "z": "2,7,64"}, body="a = Tanh(x) b = Tanh(x) y = Neg(a) z = Abs(b)",
    ),
    "gather-quantized": Case(
        inputs={"x": (5, 64)}, outputs={"y": "5,64"},
        body="d = DequantizeLinear(t, s, z) g = Gather(d, i) y = Add(x, g)",
        constants={
            "t": RANDOM.integers(-128, 127, (300, 64)).astype(np.int8), "s": np.array(0.02, np.float32),
            "z": np.array(3, np.int8), "i": np.array([0, 7, 299, 7, 1]),
        },
    ),
    "affine-into-weights": Case(
        inputs=PICTURE, outputs={"y": "3,8,7,7"}, body=f"a = {PADDED}(x, w, k) y = BatchNormalization(a, s, b, m, v)",
        constants={**WEIGHTS, "s": floats(8), "b": floats(8), "m": floats(8), "v": np.abs(floats(8)) + 1},
    ),
    "one-slope": Case(inputs=PICTURE, outputs={"y": "3,8,7,7"}, body=f"a = {PADDED}(x, w, k) y = PRelu(a, s)",
                      constants={**WEIGHTS, "s": np.full((1, 1, 1), 0.2, np.float32)}),
    "fuse-norms": Case(
        inputs=ROWS, outputs={"y": "2,7,64"},
        body="m = ReduceMean<axes = [-1]>(x) d = Sub(x, m) p = Pow(d, two) v = ReduceMean<axes = [-1]>(p) "
        "e = Add(v, epsilon) r = Sqrt(e) q = Div(d, r) s = Mul(q, g) y = Add(s, b)",
        constants={**numbers("two", "epsilon"), "g": floats(64), "b": floats(64)},
    ),
    "fuse-gelu": Case(
        inputs=ROWS, outputs={"y": "2,7,64"},
        body="a = Div(x, root) e = Erf(a) b = Add(e, one) p = Mul(x, b) y = Mul(p, half)",
        constants=numbers("root", "one", "half"),
    ),
    "fuse-attention": Case(
        inputs={"q": (3, 2, 7, 64), "k": (3, 2, 299, 64), "v": (3, 2, 299, 64), "m": (3, 1, 1, 299)},
        outputs={"y": "3,2,7,64"}, precision=HALF,
        body="t = Transpose<perm = [0, 1, 3, 2]>(k) s = MatMul(q, t) c = Mul(s, eighth) a = Add(c, m) "
        "p = Softmax<axis = -1>(a) y = MatMul(p, v)",
        constants=numbers("eighth"),
    ),
    "fuse-epilogues": Case(inputs=PICTURE, outputs={"y": "3,8,7,7"},
                           body=f"a = {PADDED}(x, w, k) b = Add(a, x) y = Relu(b)", constants=WEIGHTS),
    "fuse-tails": Case(
        inputs={"x": (3, 16, 14, 14), "r": (3, 32, 14, 14)}, outputs={"y": "3,32,14,14"}, precision=HALF,
        body=f"a = {PADDED}(x, w, k) b = Softplus(a) c = Tanh(b) d = Mul(a, c) e = Sub(one, d) y = Mul(e, r)",
        constants={"w": floats(32, 16, 3, 3), "k": floats(32), **numbers("one")},
    ),
    "flatten-pixels": Case(
        inputs=PICTURE, outputs={"y": "3,7"}, body=f"a = {PADDED}(x, w, k) f = Flatten(a) y = Gemm<transB = 1>(f, v)",
        constants={**WEIGHTS, "v": floats(7, 8 * 49)},
    ),
    "widen-siblings": Case(
        inputs=ROWS, outputs={"y": "2,7,64", "z": "2,7,7"}, precision=HALF,
        body="a = MatMul(x, w) b = MatMul(x, v) y = Softmax(a) z = Softmax(b)",
        constants={"w": floats(64, 64), "v": floats(64, 7)},
    ),
    "pad-channels": Case(
        inputs={"x": (3, 12, 7, 7)}, outputs={"y": "3,1000,7,7"}, precision=HALF,
        body=f"a = {PADDED}(x, w, k) b = Relu(a) c = Conv(b, v) y = Neg(c)",
        constants={"w": floats(7, 12, 3, 3), "k": floats(7), "v": floats(1000, 7, 1, 1)},
    ),
    "precision": Case(inputs=PICTURE, outputs={"y": "3,8,7,7"}, precision=HALF,
                          body=f"a = {PADDED}(x, w, k) y = Relu(a)", constants=WEIGHTS),
    "fuse-casts": Case(inputs={"x": (3, 64)}, outputs={"y": "3,1000"}, precision=HALF,
                       body="a = Gemm<transB = 1>(x, w, k) y = Softmax(a)",
                       constants={"w": floats(1000, 64), "k": floats(1000)}),
    "pair-convolutions": Case(
        inputs={"x": (3, 16, 14, 14), "t": (3, 8, 7, 7)}, outputs={"y": "3,32,7,7"}, precision=HALF,
        body="a = Conv(t, w, k) b = Conv<strides = [2, 2]>(x, v) s = Add(a, b) y = Relu(s)",
        constants={"w": floats(32, 8, 1, 1), "k": floats(32), "v": floats(32, 16, 1, 1)},
    ),
    "stem-in-halves": Case(
        inputs={"x": (3, 3, 29, 29)}, outputs={"y": "3,16,12,12"}, precision=HALF,
        body="a = Conv<strides = [2, 2]>(x, w, k) r = Relu(a) b = Conv(r, v) y = Neg(b)",
        constants={"w": floats(24, 3, 3, 3), "k": floats(24), "v": floats(16, 24, 3, 3)},
    ),
    "fuse-stem": Case(
        inputs={"x": (3, 3, 29, 29)}, outputs={"y": "3,8,8,8"}, precision=HALF,
        body="a = Conv<strides = [2, 2], pads = [3, 3, 3, 3]>(x, w, k) r = Relu(a) "
        "p = MaxPool<kernel_shape = [3, 3], strides = [2, 2], pads = [1, 1, 1, 1]>(r) y = Neg(p)",
        constants={"w": floats(8, 3, 7, 7), "k": floats(8)},
    ),
    "fuse-pools": Case(
        inputs=PICTURE, outputs={"y": "3,16,3,3"}, precision=HALF,
        body=f"a = {PADDED}(x, w, k) r = Relu(a) p = MaxPool<kernel_shape = [2, 2], strides = [2, 2]>(r) y = Neg(p)",
        constants={"w": floats(16, 8, 3, 3), "k": floats(16)},
    ),
    "clusters": Case(inputs=ROWS, outputs={"y": "2,7,64"}, body="a = Exp(x) b = Sqrt(a) y = Div(b, k)",
                     constants={"k": 2 + np.abs(floats(64))}),
}  # fmt: skip


def pipeline(case: Case, capability: int) -> tuple[Pass, ...]:
    return passes.gpu_pipeline(case.precision, capability=capability)


def test_every_pass_has_its_case() -> None:
    assert {each.name for each in passes.gpu_pipeline(Precision.FP16)} == set(CASES)


@pytest.mark.parametrize("name", CASES)
def test_a_pass_has_something_to_do_in_its_case(name: str, tmp_path: Path) -> None:
    case = CASES[name]
    told = passes.run(whole_network.network_of(case.text, case.constants, tmp_path), pipeline(case, capability=90))
    assert sum(each.changed for each in told if each.name == name)


@pytest.mark.gpu
@pytest.mark.parametrize("name", CASES)
def test_a_network_computes_the_same_before_and_after_a_pass(name: str, tmp_path: Path, device: Device) -> None:
    case = CASES[name]
    given = pipeline(case, device.capability)
    if name not in {each.name for each in given}:
        pytest.skip(f"compute capability {device.capability} has no pass {name}")
    feed = case.feed()
    untouched = whole_network.network_of(case.text, case.constants, tmp_path)
    want = whole_network.right(untouched, feed)
    without, whole = untouched.copy(), untouched.copy()
    passes.run(without, [each for each in given if each.name != name])
    passes.run(whole, given)
    for which, network in (("before", without), ("after", whole)):
        got = whole_network.run(network, feed, device)
        for output, value in want.items():
            error = np.max(np.abs(got[output].astype(np.float64) - value)) / np.max(np.abs(value))
            assert error <= ALLOWED[case.precision], f"{output} {which} {name}: {error:.2e}"
