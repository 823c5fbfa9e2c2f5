"""CUDA C++ to cubins through NVRTC, at build time only: what a plan ships needs no compiler any more.

Equal text for an equal architecture, options and compiler gives equal bytes, so results are kept (kept.py). Never
runs anything on a device: it compiles for GPUs that are not here.
"""

import importlib
import importlib.util
import os
import re
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from enginewright_builder.device.kept import kept
from enginewright_runtime.errors import EnginewrightError, MissingExtraError

_ALWAYS = ("--std=c++20", "--device-as-default-execution-space")
_SPILLS = re.compile(r"(\d+) bytes spill stores")


class KernelCompileError(EnginewrightError):
    """A kernel's source does not compile: a fault of the builder, or of the CUDA headers that it found."""


def compile(  # noqa: A001 - as `compiler.compile`
    source: str, architecture: str, options: Sequence[str] = (), *, roomier: str = ""
) -> bytes:
    """The cubin of a self-contained CUDA C++ text for `architecture` ("sm_90a"), with NVRTC's further `options`.

    `roomier` is the same kernel with more registers to spare, taken where the first text spills and it spills less.
    Raises KernelCompileError with the log's first line, MissingExtraError where NVRTC's bindings are not installed.
    """
    key = (version(), architecture, *_ALWAYS, *options, source, roomier)
    return kept(key, lambda: translate(source, architecture, options, roomier)[0])


@cache
def version() -> str:
    """NVRTC's, "13.0": part of the cache's keys, and of the timing cache's."""
    nvrtc = _nvrtc()
    _, major, minor = nvrtc.nvrtcVersion()
    return f"{major}.{minor}"


def resources(source: str, architecture: str, options: Sequence[str] = (), *, roomier: str = "") -> str:
    """What ptxas says of each kernel that `compile` would give: registers, shared memory, spills."""
    return translate(source, architecture, options, roomier)[1]


def translate(source: str, architecture: str, options: Sequence[str], roomier: str) -> tuple[bytes, str]:
    """A cubin and what ptxas says of it, nothing kept: of the first text, unless that spills more than `roomier`."""
    given = (*options, "--ptxas-options=-v")
    first = _run(source, architecture, given)
    if not roomier or not _spilled(first[1]):
        return first
    return min(first, _run(roomier, architecture, given), key=lambda each: _spilled(each[1]))


def _spilled(said: str) -> int:
    """Bytes, of all kernels of a text."""
    return sum(int(each) for each in _SPILLS.findall(said))


def _run(source: str, architecture: str, options: Sequence[str]) -> tuple[bytes, str]:
    nvrtc = _nvrtc()
    includes = [f"--include-path={folder}" for folder in include_folders()] if "#include" in source else []
    given = [*_ALWAYS, f"--gpu-architecture={architecture}", *includes, *options]
    result, program = nvrtc.nvrtcCreateProgram(source.encode(), b"kernel.cu", 0, [], [])
    _check(result, architecture, "")
    try:
        (result,) = nvrtc.nvrtcCompileProgram(program, len(given), [each.encode() for each in given])
        _, size = nvrtc.nvrtcGetProgramLogSize(program)
        log = bytearray(size)
        nvrtc.nvrtcGetProgramLog(program, log)
        text = log.rstrip(b"\0").decode(errors="replace").strip()
        _check(result, architecture, text)
        result, size = nvrtc.nvrtcGetCUBINSize(program)
        _check(result, architecture, text)
        cubin = bytearray(size)
        (result,) = nvrtc.nvrtcGetCUBIN(program, cubin)
        _check(result, architecture, text)
    finally:
        nvrtc.nvrtcDestroyProgram(program)
    return bytes(cubin), text


def _check(result: int, architecture: str, log: str) -> None:
    if int(result) == 0:
        return
    lines = [line for line in log.splitlines() if "error" in line] or log.splitlines()
    said = lines[0].strip() if lines else str(result)
    raise KernelCompileError(
        f"A kernel does not compile for {architecture} with NVRTC {version()}: {said!r}; "
        "please report it with the model's name and the builder's version."
    )


@cache
def include_folders() -> tuple[Path, ...]:
    """Where CUDA's own headers lie: the nvidia wheels' folder, then CUDA_HOME's."""
    found: list[Path] = []
    package = importlib.util.find_spec("nvidia")
    for root in (package.submodule_search_locations or ()) if package is not None else ():
        found += [*sorted(Path(root).glob("cu1*/include")), *sorted(Path(root).glob("cuda_runtime/include"))]
    homes = (os.environ.get("CUDA_HOME"), os.environ.get("CUDA_PATH"), "/usr/local/cuda")
    found += [Path(home) / "include" for home in homes if home]
    folders = [folder for folder in found if (folder / "cuda_fp16.h").is_file()]
    return tuple(each for folder in folders for each in (folder, folder / "cccl") if each.is_dir())


def _nvrtc() -> Any:
    """NVRTC's bindings, which publish no types."""
    try:
        return importlib.import_module("cuda.bindings.nvrtc")
    except ImportError as error:
        raise MissingExtraError(package="cuda-bindings", extra="cuda13", purpose="Compiling kernels") from error
