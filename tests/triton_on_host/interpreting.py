"""Runs Triton kernels without a GPU, through Triton's own interpreter: NumPy on the CPU, program after program.

`interpretation` takes the place of the compiler, and `interpreted` launches what it left. The interpreter wants tensors
as torch has them; a few methods of theirs are enough, and torch is not needed.
"""

import importlib.util
import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest

from enginewright_builder.device import compile_triton as compiler
from enginewright_builder.device.compile_triton import Compiled, TritonKernel
from enginewright_runtime.engine.cuda.program import Kernel, Space

Array = np.ndarray
TRITON = importlib.util.find_spec("triton")
needs_triton = pytest.mark.skipif(TRITON is None, reason="needs Triton: pip install 'enginewright[triton]'")


@contextmanager
def interpretation() -> Iterator[None]:
    """Within it `compile_triton.compile` gives what it was asked for as the "cubin", which `interpreted` can run."""
    before = compiler.compile
    compiler.compile = _asked
    try:
        yield
    finally:
        compiler.compile = before


def interpreted(
    kernels: Sequence[Kernel], sources: Mapping[str, str], buffers: Mapping[tuple[Space, str], Array]
) -> None:
    """Launches the kernels in order, as cuda_on_host.run_on_host does."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("TRITON_INTERPRET", "1")  # when Triton is imported, a function decorated, a kernel launched
        for kernel in kernels:
            _interpret(kernel, sources, buffers)


def _interpret(kernel: Kernel, sources: Mapping[str, str], buffers: Mapping[tuple[Space, str], Array]) -> None:
    asked = json.loads(sources[kernel.cubin])
    function = _module(asked["text"])[asked["entry"]]
    *given, scratch, profiler = kernel.arguments
    assert scratch.value == profiler.value == "00" * 8
    tensors = [
        _Tensor(buffers[each.pointer.space, each.pointer.name], kind["dtype"])
        for each, kind in zip(given, asked["pointers"], strict=True)
    ]
    names = [name for name in function.arg_names if name not in asked["constants"]]
    with np.errstate(over="ignore"):  # as on a GPU, where nobody is told
        function[kernel.grid](**dict(zip(names, tensors, strict=True)), **asked["constants"])


class _Tensor:
    """A buffer with those methods of a torch tensor that the interpreter calls."""

    def __init__(self, buffer: Array, dtype: str) -> None:
        self.buffer, self.dtype = buffer, dtype

    def data_ptr(self) -> int:
        return int(self.buffer.ctypes.data)

    def untyped_storage(self) -> "_Tensor":
        return self

    def cpu(self) -> "_Tensor":
        return self

    def new_empty(self, _size: int, device: str) -> "_Tensor":
        assert device == "cpu"
        return _Tensor(self.buffer, self.dtype)

    def set_(self, storage: "_Tensor", *_place: Any) -> None:
        self.buffer = storage.buffer

    def storage_offset(self) -> int:
        return 0

    def size(self) -> tuple[int, ...]:
        return self.buffer.shape

    def stride(self) -> tuple[int, ...]:
        return ()

    def copy_(self, other: "_Tensor") -> None:
        assert other.buffer is self.buffer


def _asked(kernel: TritonKernel, _capability: int) -> Compiled:
    asked = json.dumps(asdict(kernel)).encode()
    return Compiled(cubin=asked, function=kernel.entry, threads=32 * kernel.warps, shared_bytes=0, scratch_bytes=0)


_folder = TemporaryDirectory(prefix="triton-on-host-")  # functions read their text when they are first called
_numbers = itertools.count()


@cache
def _module(text: str) -> dict[str, Any]:
    """The kernel's module as the interpreter takes it."""
    path = Path(_folder.name) / f"kernel_{next(_numbers)}.py"
    path.write_text(text)
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return vars(module)
