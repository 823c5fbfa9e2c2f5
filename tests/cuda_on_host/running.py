"""Runs CUDA kernels without a GPU: their text becomes a shared library through g++ and a header that plays the device.

    run_on_host(kernels, {"kernel": source}, {(Space.OPERAND, "0"): buffer, ...})

Buffers are one-dimensional NumPy arrays, changed in place. `packed` and `unpacked` lay tensors out by their strides;
`computed` does it all for an Implementation of a problem. Libraries are kept by their content.
"""

import ctypes
import os
import shutil
import subprocess
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest

from enginewright_builder.device import compile as compiler
from enginewright_builder.device.emit_cuda import Emitted, prelude
from enginewright_builder.device.implementation import Implementation
from enginewright_builder.device.problem import Problem
from enginewright_builder.device.tensors import TensorType
from enginewright_runtime.engine.cuda.program import Argument, Kernel, Pointer, Space
from enginewright_runtime.engine.values import dtype_of as numpy_dtype

Array = np.ndarray
Launch = Callable[[Sequence[Kernel], Mapping[str, str], Mapping[tuple[Space, str], Array]], None]
HERE = Path(__file__).parent
CACHE = Path.home() / ".cache" / "enginewright" / "cuda_on_host"
OPTIONS = (
    "-std=c++20", "-O1", "-w", "-fPIC", "-shared", "-fwrapv", "-fno-strict-aliasing", "-ffp-contract=off",
    "-U_FORTIFY_SOURCE",
)  # fmt: skip
GUARD = 256  # bytes on either side of an operand that no kernel may change


def run_on_host(
    kernels: Sequence[Kernel], sources: Mapping[str, str], buffers: Mapping[tuple[Space, str], Array]
) -> None:
    """Launches the kernels in order. `sources` are CUDA texts by the name of the cubin that a kernel names."""
    library = built(dict.fromkeys(_key(sources[kernel.cubin], kernel.function) for kernel in kernels))
    for kernel in kernels:
        held = [_argument(argument, buffers) for argument in kernel.arguments]
        pointers = (ctypes.c_void_p * max(len(held), 1))(*(ctypes.addressof(each) for each in held))
        launch = getattr(library, _symbol(_key(sources[kernel.cubin], kernel.function)))
        launch(pointers, (ctypes.c_uint * 3)(*kernel.grid), (ctypes.c_uint * 3)(*kernel.block))


def prepare(kernels: Iterable[tuple[str, str]]) -> None:
    """Builds many (source, function) at once, which takes less time than one by one. They stay for this process."""
    wanted = dict.fromkeys(kernels)
    library = built(wanted)
    _prepared.update(dict.fromkeys(wanted, library))


_prepared: dict[tuple[str, str], ctypes.CDLL] = {}


def built(kernels: Mapping[tuple[str, str], None]) -> ctypes.CDLL:
    """The library with a launcher for each of the kernels."""
    found = {_prepared.get(kernel) for kernel in kernels}
    if len(found) == 1 and (library := next(iter(found))) is not None:
        return library
    return _built(tuple(kernels))


@cache
def _built(kernels: tuple[tuple[str, str], ...]) -> ctypes.CDLL:
    text = "\n".join(
        [f"// {sha256(_header().encode()).hexdigest()}", '#include "cuda_on_host.h"', prelude()]
        + [_wrapped(source, function) for source, function in kernels]
    )
    path = CACHE / f"{sha256((text + ' '.join(OPTIONS)).encode()).hexdigest()}.so"
    if not path.exists():
        if shutil.which("g++") is None:
            pytest.skip("g++ is not installed here, and kernels run on the CPU through it")
        path.parent.mkdir(parents=True, exist_ok=True)
        made = path.with_suffix(f".{os.getpid()}.so")  # several processes may build the same
        code = path.with_suffix(f".{os.getpid()}.cpp")
        code.write_text(text)
        done = subprocess.run(
            ["g++", *OPTIONS, f"-I{HERE}", str(code), "-o", str(made)], capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise AssertionError(f"{code} does not compile:\n{done.stderr[:4000]}")
        code.unlink()
        made.replace(path)
    return ctypes.CDLL(str(path))


@cache
def _header() -> str:
    return (HERE / "cuda_on_host.h").read_text()


def _key(source: str, function: str) -> tuple[str, str]:
    return source, function


def _symbol(kernel: tuple[str, str]) -> str:
    return f"launch_{sha256(chr(0).join(kernel).encode()).hexdigest()[:16]}"


def _wrapped(source: str, function: str) -> str:
    """The kernel in a namespace of its own, behind a launcher. The prelude stands once for all."""
    symbol = _symbol((source, function))
    text = source.replace(prelude(), "").replace('extern "C"', "")
    text = "\n".join(line for line in text.splitlines() if not line.startswith("#include"))
    return (
        f"namespace {symbol}_ {{\n{text}\n}}\n"
        f'extern "C" void {symbol}(void** arguments, const unsigned* grid, const unsigned* block) {{\n'
        f"    cuda_on_host::launch<&{symbol}_::{function}>(arguments, grid, block);\n}}\n"
    )


def _argument(argument: Argument, buffers: Mapping[tuple[Space, str], Array]) -> ctypes.Array[ctypes.c_char]:
    if argument.pointer is not None:
        address = _address(argument.pointer, buffers)
        return ctypes.create_string_buffer(address.to_bytes(8, "little"), 8)
    if argument.tensor_map is not None:
        raise NotImplementedError("tensor maps need a GPU")
    raw = bytes.fromhex(argument.value)
    return ctypes.create_string_buffer(raw, len(raw))


def _address(pointer: Pointer, buffers: Mapping[tuple[Space, str], Array]) -> int:
    return int(buffers[pointer.space, pointer.name].ctypes.data) + pointer.offset


def packed(values: Array, kind: TensorType) -> Array:
    """A tensor as bytes that lie by its strides, between guards; what no element covers is poisoned with 0xff."""
    raw = np.full(_length(kind), 0xFF, np.uint8)
    _view(raw, kind, _lead(raw))[...] = values.astype(numpy_dtype(kind.dtype), copy=False)
    return raw


def empty(kind: TensorType) -> Array:
    """Poisoned bytes for a tensor of the type."""
    return np.full(_length(kind), 0xFF, np.uint8)


def unpacked(raw: Array, kind: TensorType) -> Array:
    """The tensor in such bytes. Fails if a guard or a gap was written to."""
    covered = np.zeros(len(raw), np.uint8)
    size = numpy_dtype(kind.dtype).itemsize
    _view(covered, kind, _lead(raw), np.dtype((np.void, size)))[...] = np.void(b"\1" * size)
    assert (raw[covered == 0] == 0xFF).all(), "a kernel wrote outside of its output"
    return _view(raw, kind, _lead(raw)).copy()


def inside(raw: Array) -> Array:
    """Where the tensor begins: what a kernel gets."""
    return raw[_lead(raw) :]


def _lead(raw: Array) -> int:
    return GUARD + (-(raw.ctypes.data + GUARD)) % 256


def _length(kind: TensorType) -> int:
    return max(kind.span_bytes, 1) + 2 * GUARD + 256


def _view(raw: Array, kind: TensorType, lead: int, dtype: np.dtype | None = None) -> Array:
    of = numpy_dtype(kind.dtype) if dtype is None else dtype
    if 0 in kind.shape:
        return np.empty(kind.shape, of)
    return np.ndarray(kind.shape, of, raw.data, offset=lead, strides=tuple(each * of.itemsize for each in kind.strides))


@contextmanager
def host_compilation() -> Iterator[None]:
    """Within it `compiler.compile` gives the source itself as the "cubin", which `computed` can run."""
    before = compiler.compile
    compiler.compile = lambda source, architecture, options=(), roomier="": source.encode()
    try:
        yield
    finally:
        compiler.compile = before


def computed(
    implementation: Implementation, problem: Problem, inputs: Sequence[Array | None], launch: Launch | None = None
) -> list[Array]:
    """The outputs of an implementation built under `host_compilation`, for inputs of logical shapes; or under what
    belongs to another `launch` than run_on_host."""
    kinds = problem.operands
    raws: list[Array | None] = [
        None if kind is None else packed(values, kind) if values is not None else empty(kind)
        for kind, values in zip(kinds, [*inputs, *(None for _ in problem.outputs)], strict=True)
    ]
    buffers = {(Space.OPERAND, str(n)): inside(raw) for n, raw in enumerate(raws) if raw is not None}
    constants = {n: values for n, values in enumerate(inputs) if values is not None}
    kept = {
        (Space.CONSTANT, name): np.ascontiguousarray(make(constants)).reshape(-1).view(np.uint8)
        for name, make in implementation.constants.items()
    }
    workspace = np.full(implementation.workspace_bytes + 512, 0xFF, np.uint8)
    buffers |= kept | {(Space.WORKSPACE, ""): workspace[-workspace.ctypes.data % 256 :]}
    sources = {name: text.decode() for name, text in implementation.cubins.items()}
    for step in implementation.steps:
        if step.kernel is not None:
            (launch or run_on_host)([step.kernel], sources, buffers)
        elif step.fill is not None:
            ctypes.memset(_address(step.fill.pointer, buffers), step.fill.value, step.fill.bytes)
        elif step.copy is not None:
            ctypes.memmove(_address(step.copy.target, buffers), _address(step.copy.source, buffers), step.copy.bytes)
        else:
            raise NotImplementedError("a library's step needs a GPU")
    first = len(problem.inputs)
    return [unpacked(raw, kind) for raw, kind in zip(raws[first:], problem.outputs, strict=True) if raw is not None]


def outputs_of(
    made: Emitted, inputs: Sequence[TensorType | None], outputs: Sequence[TensorType], arrays: Sequence[Array | None]
) -> list[Array]:
    """The outputs of one generated kernel for inputs of logical shapes."""
    raws = [None if kind is None else packed(a, kind) for a, kind in zip(arrays, inputs, strict=True)]
    raws += [empty(kind) for kind in outputs]
    buffers = {(Space.OPERAND, str(n)): inside(raw) for n, raw in enumerate(raws) if raw is not None}
    if made.kernel is not None:
        run_on_host([made.kernel], {made.kernel.cubin: made.source}, buffers)
    return [unpacked(raw, kind) for raw, kind in zip(raws[len(inputs) :], outputs, strict=True)]
