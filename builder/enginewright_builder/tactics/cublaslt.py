"""cuBLASLt's algorithms as candidates: those that its heuristics name for a product, and more splits of the sum.

Where `every` one is asked for, also all others that the library has, by number, tile and stages. An algorithm is 64
bytes that only the library reads, and everything that can be set about one is an integer. A candidate's name says
those integers, so that the name alone makes the same algorithm again, and the plan carries the bytes. This module asks
the library, on the device that is built for, and nothing when it is not there.
"""

import ctypes
import functools
import itertools
import re
import weakref
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from enginewright_builder.device.implementation import Array, Candidate, Constants, Device, Implementation
from enginewright_builder.device.problem import Problem
from enginewright_builder.tactics import cublaslt_library
from enginewright_builder.tactics.cublaslt_product import WEIGHTS, packed_patches, product
from enginewright_runtime.engine import values
from enginewright_runtime.engine.cuda.cublaslt import ALGORITHM_BYTES, Described
from enginewright_runtime.engine.cuda.program import MatrixProduct, Pointer, Space, Step
from enginewright_runtime.errors import PlanError, UnsupportedError

REQUESTED = 32  # algorithms asked of the heuristics
WORKSPACE_BYTES = 32 << 20  # what NVIDIA recommends for Hopper
ALIGNMENT = 16  # bytes, of every operand: slices of wider buffers begin at such multiples
SPLITS = (2, 3, 4, 6, 8, 12, 16)
_MOST = 200  # by number: no tuner tries more
_FEW_WAVES = 0.75  # below this share of the multiprocessors, splitting the sum may pay
_SPLIT_MOST = 6  # the best algorithms that further splits are tried of

# cublasLtMatmulAlgoConfigAttributes_t: number and C type, in the order in which a name says them.
_SETTINGS: Mapping[str, tuple[int, Any]] = {
    "algorithm": (0, ctypes.c_int32),
    "tile": (1, ctypes.c_uint32),
    "stages": (6, ctypes.c_uint32),
    "split": (2, ctypes.c_int32),
    "reduction": (3, ctypes.c_uint32),
    "swizzle": (4, ctypes.c_uint32),
    "custom": (5, ctypes.c_uint32),
    "inner": (7, ctypes.c_uint16),
    "cluster": (8, ctypes.c_uint16),
}
_NAME = re.compile(", ".join(rf"{setting} (-?\d+)" for setting in _SETTINGS))
_REDUCE_IN_COMPUTE_TYPE = 2  # cublasLtReductionScheme_t: partial sums go through the workspace in float32
_NO_INPLACE_REDUCTION = 2 | 4  # adding to the output with atomics is not the same every time
_PREFERENCE_WORKSPACE, _PREFERENCE_REDUCTION = 1, 3
_PREFERENCE_ALIGNMENT = (5, 6, 7, 8)


class _Found(ctypes.Structure):
    """cublasLtMatmulHeuristicResult_t."""

    _fields_ = (
        ("algorithm", ctypes.c_char * ALGORITHM_BYTES),
        ("workspace", ctypes.c_size_t),
        ("state", ctypes.c_int),
        ("waves", ctypes.c_float),
        ("reserved", ctypes.c_int * 4),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Algorithm:
    """What can be set about an algorithm, by the names of `_SETTINGS`."""

    settings: tuple[int, ...]

    @property
    def name(self) -> str:
        """As in "algorithm 66, tile 20, stages 35, split 1, ..."."""
        return ", ".join(f"{setting} {value}" for setting, value in zip(_SETTINGS, self.settings, strict=True))

    def with_split(self, parts: int) -> "Algorithm":
        """The same, the sum in so many parts that are added in float32."""
        changed = dict(zip(_SETTINGS, self.settings, strict=True))
        changed |= {"split": parts, "reduction": _REDUCE_IN_COMPUTE_TYPE}
        return Algorithm(settings=tuple(changed.values()))


def parse(name: str) -> Algorithm:
    """The algorithm that a candidate's name says. Raises UnsupportedError where it says none."""
    match = _NAME.fullmatch(name)
    if match is None:
        raise UnsupportedError(f"{name!r} names no algorithm of cuBLASLt: remove it from the timing cache.")
    return Algorithm(settings=tuple(int(each) for each in match.groups()))


class CublasLtTactic:
    """A Tactic (device/implementation.py): products, and convolutions that are products."""

    name = "cublaslt"
    reason = "NVIDIA's library: matrix products of every shape, and the rival that ours have to beat"

    def __init__(self, *, every: bool = False) -> None:
        self.every = every

    def candidates(self, problem: Problem, device: Device, constant: frozenset[int]) -> tuple[Candidate, ...]:
        """In the order of the library's heuristics, then with further splits, then every other one if so asked."""
        record = product(problem, constant) if self.name in device.libraries else None
        if record is None:
            return ()
        kind, found = _bias_dtype(problem), _every if self.every else _algorithms
        return tuple(self._candidate(record, kind, each) for each in dict.fromkeys(found(record)))

    def named(self, problem: Problem, constant: frozenset[int], name: str) -> Candidate:
        """The candidate of that name, without asking the heuristics. Raises UnsupportedError where there is none."""
        record = product(problem, constant)
        if record is None:
            raise UnsupportedError(f"cuBLASLt has no product for this {problem.kind}: remove {name!r} from the cache.")
        return self._candidate(record, _bias_dtype(problem), parse(name))

    def _candidate(self, record: MatrixProduct, bias_dtype: str, algorithm: Algorithm) -> Candidate:
        build = functools.partial(implementation, record, bias_dtype, algorithm)
        return Candidate(tactic=self.name, name=algorithm.name, build=build, serial=True)


def implementation(record: MatrixProduct, bias_dtype: str, algorithm: Algorithm) -> Implementation:
    """The product by one algorithm. Raises UnsupportedError where the library does not take it."""
    try:
        data, size = _checked(record, algorithm)
    except PlanError as error:
        raise UnsupportedError(f"cuBLASLt does not take {algorithm.name} ({error}): try another.") from error
    constants = {}
    if record.a.space is Space.CONSTANT:
        constants[WEIGHTS] = packed_patches
    if record.bias is not None and record.bias.space is Space.CONSTANT:
        constants["bias"] = functools.partial(_bias, bias_dtype)
    complete = replace(
        record,
        algorithm=data.hex(),
        workspace=Pointer(space=Space.WORKSPACE) if size else None,
        workspace_bytes=size,
    )
    return Implementation(steps=(Step(layer="", product=complete),), constants=constants, workspace_bytes=size)


def _bias_dtype(problem: Problem) -> str:
    return problem.outputs[0].dtype


def _bias(dtype: str, constants: Constants) -> Array:
    return np.ascontiguousarray(constants[2].reshape(-1).astype(values.dtype_of(dtype)))


def _algorithms(record: MatrixProduct) -> Iterator[Algorithm]:
    """What the heuristics name, then further splits of the first of them where the device would not be full."""
    library = cublaslt_library.library()
    described = _described(record)
    found = (_Found * REQUESTED)()
    count = ctypes.c_int()
    status = library.calls.cublasLtMatmulAlgoGetHeuristic(
        library.handle,
        described.operation,
        described.a,
        described.b,
        described.c,
        described.d,
        _preference(),
        REQUESTED,
        found,
        ctypes.byref(count),
    )
    if status:  # CUBLAS_STATUS_NOT_SUPPORTED: the library has no such product
        return
    named = [(_settings(each), each.waves) for each in found[: count.value] if not each.state]
    yield from (algorithm for algorithm, _ in named)
    for algorithm, waves in named[:_SPLIT_MOST]:
        if waves < _FEW_WAVES and record.d_layout.batch == 1:  # products of a batch are never split
            yield from (algorithm.with_split(parts) for parts in SPLITS)


def _every(record: MatrixProduct) -> Iterator[Algorithm]:
    """The same, then each algorithm with each of its tiles and stages that the library takes for this product."""
    named = list(_algorithms(record))
    yield from named
    yield from itertools.islice(_by_number(record, {each.settings[0] for each in named}), _MOST)


def _by_number(record: MatrixProduct, liked: set[int]) -> Iterator[Algorithm]:
    """Those that are liked first."""
    for number in sorted(cublaslt_library.numbers(record), key=lambda each: each not in liked):
        for tile, stages in itertools.product(*cublaslt_library.offered(record, number)):
            algorithm = Algorithm(settings=(number, tile, stages, 1, *(0,) * (len(_SETTINGS) - 4)))
            with suppress(PlanError):
                _checked(record, algorithm)
                yield algorithm


def _described(record: MatrixProduct) -> Described:
    described = Described(record, cublaslt_library.library())
    if record.bias is not None:
        described.set_bias(1 << 20)  # never read here: the library looks at how it is aligned
    return described


def _preference() -> ctypes.c_void_p:
    library, made = cublaslt_library.library(), ctypes.c_void_p()
    library.check(library.calls.cublasLtMatmulPreferenceCreate(ctypes.byref(made)), "cublasLtMatmulPreferenceCreate")
    weakref.finalize(made, library.calls.cublasLtMatmulPreferenceDestroy, made.value)
    wanted: list[tuple[int, Any]] = [
        (_PREFERENCE_WORKSPACE, ctypes.c_uint64(WORKSPACE_BYTES)),
        (_PREFERENCE_REDUCTION, ctypes.c_uint32(_NO_INPLACE_REDUCTION)),
        *((attribute, ctypes.c_uint32(ALIGNMENT)) for attribute in _PREFERENCE_ALIGNMENT),
    ]
    for attribute, value in wanted:
        status = library.calls.cublasLtMatmulPreferenceSetAttribute(
            made, attribute, ctypes.byref(value), ctypes.sizeof(value)
        )
        library.check(status, f"cublasLtMatmulPreferenceSetAttribute({attribute})")
    return made


def _settings(found: _Found) -> Algorithm:
    library, read = cublaslt_library.library(), []
    for attribute, kind in _SETTINGS.values():
        value, written = kind(), ctypes.c_size_t()
        status = library.calls.cublasLtMatmulAlgoConfigGetAttribute(
            ctypes.byref(found), attribute, ctypes.byref(value), ctypes.sizeof(value), ctypes.byref(written)
        )
        library.check(status, f"cublasLtMatmulAlgoConfigGetAttribute({attribute})")
        read.append(int(value.value))
    return Algorithm(settings=tuple(read))


def _checked(record: MatrixProduct, algorithm: Algorithm) -> tuple[bytes, int]:
    """The algorithm's bytes and the workspace that it takes. Raises PlanError where the library refuses it."""
    library, described, result = cublaslt_library.library(), _described(record), _Found()
    data = (ctypes.c_char * ALGORITHM_BYTES)()
    status = library.calls.cublasLtMatmulAlgoInit(
        library.handle, *cublaslt_library.types(record), algorithm.settings[0], data
    )
    library.check(status, "cublasLtMatmulAlgoInit")
    for (attribute, kind), setting in list(zip(_SETTINGS.values(), algorithm.settings, strict=True))[1:]:
        value = kind(setting)
        status = library.calls.cublasLtMatmulAlgoConfigSetAttribute(
            data, attribute, ctypes.byref(value), ctypes.sizeof(value)
        )
        library.check(status, f"cublasLtMatmulAlgoConfigSetAttribute({attribute})")
    status = library.calls.cublasLtMatmulAlgoCheck(
        library.handle,
        described.operation,
        described.a,
        described.b,
        described.c,
        described.d,
        data,
        ctypes.byref(result),
    )
    library.check(status or result.state, "cublasLtMatmulAlgoCheck")
    if result.workspace > WORKSPACE_BYTES:
        raise PlanError(
            f"It takes {result.workspace} bytes of workspace where {WORKSPACE_BYTES} are allowed: try another."
        )
    return bytes(data.raw), int(result.workspace)
