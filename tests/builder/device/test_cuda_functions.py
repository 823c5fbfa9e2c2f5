"""Every scalar function, cast and stored type of generated kernels against NumPy, all in one library."""

import itertools
import warnings

import numpy as np
import pytest
from cuda_on_host import running

from enginewright_builder.device import cuda_functions, reference
from enginewright_builder.device.emit_cuda import emit
from enginewright_builder.device.expression import Call, Cast, Computation, Expression, Index, Load
from enginewright_builder.device.scalar_functions import FUNCTIONS
from enginewright_builder.device.schedule_kernel import Schedule, Shape
from enginewright_builder.device.tensors import ITEM_BYTES, plain
from enginewright_runtime.engine.values import dtype_of

SIZE = 64
FLOATS = ("float32", "float64")
INTEGERS = ("int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64")
COMPARISONS = ("<", "<=", "==", "!=", "and", "or", "not", "isnan", "isinf")
ARITY = {
    **dict.fromkeys(("neg", "abs", "not", "~"), 1),
    **dict.fromkeys(
        ("+", "-", "*", "/", "//", "%", "floordiv", "mod", "fmod", "<", "<=", "==", "!=", "and", "or", "&", "|", "^",
         "<<", ">>", "min", "max", "pow", "atan2"), 2),
}  # fmt: skip
WHOLE_ONLY = ("&", "|", "^", "~", "<<", ">>", "//", "%", "floordiv")
REAL_ONLY = (frozenset(FUNCTIONS) - frozenset(ARITY)) | {"atan2", "/"}
SCHEDULE = Schedule(shape=Shape.COLUMNS, threads=32, vector=2)


def _held(dtype: str) -> str:
    return "float32" if "float" in dtype and dtype not in FLOATS else dtype


def _load(operand: int, dtype: str) -> Load:
    return Load(operand, (Index("i0"),), _held(dtype))


def _inputs(dtype: str, seed: int) -> np.ndarray:
    random = np.random.default_rng(seed)
    if "float" in dtype:
        odd = np.array([0.0, -0.0, 1.0, -1.0, 0.5, 1.5, 2.5, -2.5, np.inf, -np.inf, np.nan, 3.0, -3.0, 1e-3])
        values = np.concatenate([odd, random.standard_normal(SIZE - len(odd)) * 2])
        random.shuffle(values)
        return values.astype(dtype_of(dtype))
    if dtype == "bool":
        return random.random(SIZE) < 0.5
    bounds = np.iinfo(dtype)
    values = random.integers(max(bounds.min, -9), 10, SIZE).astype(dtype)
    values[:2] = bounds.min, bounds.max
    return values


def _cases() -> list[tuple[str, Computation, tuple[str, ...]]]:
    made = []
    for function in sorted(FUNCTIONS):
        for dtype in (*FLOATS, *INTEGERS, "bool"):
            if (dtype in FLOATS and function in WHOLE_ONLY) or (dtype not in FLOATS and function in REAL_ONLY):
                continue
            if (dtype == "bool") != (function in ("and", "or", "not")) and not (
                dtype == "bool" and function in ("==", "!=", "&", "|", "^")
            ):
                continue
            arity = ARITY.get(function, 1)
            result = "bool" if function in COMPARISONS else dtype
            value = Call(function, tuple(_load(n, dtype) for n in range(arity)), result)
            made.append((f"{function} {dtype}", _stored(value, result), (dtype,) * arity))
    for source, target in itertools.product((*FLOATS, "float16", "bfloat16", *INTEGERS, "bool"), repeat=2):
        value = Cast(_load(0, source), target)
        made.append((f"cast {source} {target}", _stored(value, target), (source,)))
    made += [
        (f"widen {dtype}", _stored(_load(0, dtype), "float32"), (dtype,)) for dtype in ITEM_BYTES if "float" in dtype
    ]
    made += [(f"narrow {a} {b}", _stored(_load(0, a), b), (a,)) for a in FLOATS for b in ITEM_BYTES if "float" in b]
    return made


def _stored(value: Expression, dtype: str) -> Computation:
    return Computation(shape=(SIZE,), dtype=dtype, value=value)


CASES = _cases()


def _operand_arrays(name: str, inputs: tuple[str, ...]) -> list[np.ndarray]:
    arrays = [_inputs(each, seed) for seed, each in enumerate(inputs)]
    if name.startswith(("//", "%", "floordiv", "mod", "fmod")):  # by zero, each is what it likes
        arrays[1][arrays[1] == 0] = 1
    if name.startswith(("<<", ">>")):
        arrays[1] = np.abs(arrays[1]) if "u" not in inputs[1] else arrays[1]
    if name.startswith("pow ") and "float" not in name:
        arrays[1] = (arrays[1] % 4).astype(arrays[1].dtype)
    return arrays


def _groups() -> dict[tuple[object, ...], list[tuple[str, Computation, tuple[str, ...]]]]:
    """By what they read: all of a group are outputs of one kernel, which compiles faster than one each."""
    made: dict[tuple[object, ...], list[tuple[str, Computation, tuple[str, ...]]]] = {}
    for case in CASES:
        made.setdefault((case[2], *(a.tobytes() for a in _operand_arrays(case[0], case[2]))), []).append(case)
    return made


@pytest.fixture(scope="module")
def results():
    """What every case gives, from kernels built in one go."""
    kernels = []
    for cases in _groups().values():
        inputs = [plain(each, (SIZE,)) for each in cases[0][2]]
        outputs = [plain(each.dtype, (SIZE,)) for _, each, _ in cases]
        kernels.append((cases, inputs, outputs, emit([each for _, each, _ in cases], inputs, outputs, SCHEDULE)))
    running.prepare((made.source, made.kernel.function) for _, _, _, made in kernels)
    return {
        name: got
        for cases, inputs, outputs, made in kernels
        for (name, _, _), got in zip(
            cases, running.outputs_of(made, inputs, outputs, _operand_arrays(cases[0][0], cases[0][2])), strict=True
        )
    }


@pytest.mark.parametrize(("name", "computation", "inputs"), CASES, ids=[name for name, _, _ in CASES])
def test_cuda_text_means_what_the_reference_says(name, computation, inputs, results):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        want = reference.evaluate(computation, _operand_arrays(name, inputs))
    got = results[name]
    if "float" in computation.dtype:
        tolerance = 1e-14 if computation.dtype == "float64" else 2e-6
        exact = name.startswith(("widen", "narrow", "cast")) or (
            ARITY.get(name.split()[0]) == 2 and not name.startswith(("pow", "atan2"))
        )
        np.testing.assert_allclose(
            got.astype(np.float64),
            want.astype(np.float64),
            rtol=0 if exact else tolerance,
            atol=0 if exact else tolerance,
        )
        assert (np.signbit(got.astype(np.float64)) == np.signbit(want.astype(np.float64)))[
            ~np.isnan(want.astype(float))
        ].all()
    else:
        np.testing.assert_array_equal(got, want)


def test_every_function_of_the_reference_has_cuda_text():
    assert frozenset(FUNCTIONS) <= cuda_functions.functions()
