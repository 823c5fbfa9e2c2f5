"""Kernels in Triton's language to cubins, at build time only: what a plan ships needs neither Triton nor a compiler.

Triton runs in a process of its own (triton_child.py). Its compiler may abort, which then ends one kernel and not the
build; it reads dozens of environment variables, of which that process sees none; and several kernels compile at once.
It needs no GPU and no driver. Equal kernels give equal bytes, so results are kept (kept.py).
"""

import importlib.metadata
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from enginewright_builder.device.compile import KernelCompileError
from enginewright_builder.device.kept import kept
from enginewright_builder.device.tensors import TensorType
from enginewright_runtime.engine.cuda.program import Argument, Kernel, Pointer, Space, Step
from enginewright_runtime.errors import MissingExtraError

Constant = bool | int | float | str | None
POINTERS: Mapping[str, str] = {
    "float16": "*fp16", "bfloat16": "*bf16", "float32": "*fp32", "float64": "*fp64", "bool": "*i1", "int8": "*i8",
    "uint8": "*u8", "int16": "*i16", "uint16": "*u16", "int32": "*i32", "uint32": "*u32", "int64": "*i64",
    "uint64": "*u64",
}  # fmt: skip
_WIDE = 16  # bytes: what Triton must know of an address to load so many at once
_LIMIT = 300  # seconds for one kernel: the largest of ours takes some two
_CHILD = "enginewright_builder.device.triton_child"
# Triton, LLVM and ptxas listen to these; a kernel must not depend on who builds it.
_SETTINGS = ("TRITON_", "MLIR_", "LLVM_", "NVPTX_", "PTXAS_", "DISABLE_", "USE_IR_LOC")


@dataclass(frozen=True, slots=True, kw_only=True)
class TritonKernel:
    """`text` is a Python module with the function `entry`, decorated with triton.jit.

    `constants` are parameters of it by name, whose values are known (tl.constexpr, or None for an absent pointer);
    `pointers` are what all its other parameters point to, in their order.
    """

    text: str
    entry: str
    pointers: tuple[TensorType, ...]
    constants: Mapping[str, Constant] = field(default_factory=dict)
    warps: int = 4
    stages: int = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Compiled:
    """A cubin with what a launch of it must say: threads a block, dynamic shared memory, scratch bytes a block."""

    cubin: bytes
    function: str
    threads: int
    shared_bytes: int
    scratch_bytes: int


def compile(kernel: TritonKernel, capability: int) -> Compiled:  # noqa: A001 - as `compiler.compile`
    """The kernel for a compute capability (90 for 9.0). Raises KernelCompileError with the compiler's last words, and
    MissingExtraError where Triton is not installed."""
    if not version():
        raise MissingExtraError(package="triton", extra="triton", purpose="Compiling Triton kernels")
    request = json.dumps(_request(kernel, capability))
    answer = kept(("triton", version(), request, kernel.text), lambda: _translated(kernel, request, capability))
    header, _, cubin = answer.partition(b"\n")
    return Compiled(cubin=cubin, **json.loads(header))


def launch(compiled: Compiled, cubin: str, blocks: tuple[int, int, int], pointers: Sequence[Pointer]) -> Step:
    """The launch of a kernel whose cubin is called `cubin`. Where it has scratch, the implementation's workspace must
    have `scratch_bytes` for each block.

    Behind a kernel's own parameters Triton adds two: its scratch memory, and its profiler's, which it is never given.
    """
    nothing = Argument(value="00" * 8)
    scratch = Argument(pointer=Pointer(space=Space.WORKSPACE)) if compiled.scratch_bytes else nothing
    kernel = Kernel(
        cubin=cubin,
        function=compiled.function,
        grid=blocks,
        block=(compiled.threads, 1, 1),
        arguments=(*(Argument(pointer=pointer) for pointer in pointers), scratch, nothing),
        shared_bytes=compiled.shared_bytes,
    )
    return Step(layer="", kernel=kernel)


@cache
def version() -> str:
    """Triton's, "3.9.0"; "" where it is not installed. Part of the cache's keys, and of the timing cache's."""
    try:
        return importlib.metadata.version("triton")
    except importlib.metadata.PackageNotFoundError:
        return ""


def _request(kernel: TritonKernel, capability: int) -> dict[str, Any]:
    return {
        "entry": kernel.entry,
        "pointers": [POINTERS[each.dtype] for each in kernel.pointers],
        "wide": [each.alignment % _WIDE == 0 for each in kernel.pointers],
        "constants": dict(kernel.constants),
        "warps": kernel.warps,
        "stages": kernel.stages,
        "capability": capability,
    }


def _translated(kernel: TritonKernel, request: str, capability: int) -> bytes:
    """The child's answer: a line of JSON, and the cubin."""
    with tempfile.TemporaryDirectory(prefix="enginewright-triton-") as name:
        folder = Path(name)
        (folder / "kernel.py").write_text(kernel.text, encoding="utf-8")
        (folder / "request.json").write_text(request, encoding="utf-8")
        said = _run(folder)
        try:
            answer = (folder / "answer").read_bytes()
        except OSError:
            answer = json.dumps({"error": said}).encode()
    error = json.loads(answer.partition(b"\n")[0]).get("error")
    if error is not None:
        raise KernelCompileError(
            f"The Triton kernel {kernel.entry!r} does not compile for compute capability {capability // 10}."
            f"{capability % 10} with Triton {version()}: {error!r}; correct it, or report it if it is not yours."
        )
    return answer


def _run(folder: Path) -> str:
    """Run the child; what it said last, for where it leaves no answer."""
    command = [sys.executable, "-P", "-m", _CHILD, str(folder)]
    env = {name: value for name, value in os.environ.items() if not name.startswith(_SETTINGS)}
    # Line numbers of a folder that is gone would only make equal kernels different.
    env |= {"TRITON_CACHE_DIR": str(folder / "cache"), "TRITON_DISABLE_LINE_INFO": "1"}
    try:
        done = subprocess.run(command, env=env, capture_output=True, timeout=_LIMIT, check=False)
    except subprocess.TimeoutExpired:
        return f"it took more than {_LIMIT} seconds"
    lines = done.stderr.decode(errors="replace").strip().splitlines()
    return f"the compiler ended with {done.returncode}" + (f", saying {lines[-1].strip()}" if lines else "")
