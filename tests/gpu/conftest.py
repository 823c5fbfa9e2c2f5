"""Tests that need an NVIDIA GPU: skipped where there is none. And tiny kernels with what it takes to run them."""

import ctypes
import struct
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from enginewright_builder.device.implementation import Device
from enginewright_runtime.engine import available
from enginewright_runtime.engine.cuda.executor import CudaExecutor
from enginewright_runtime.engine.cuda.program import Argument, DeviceProgram, Kernel, Pointer, Space, Step, Tensor
from enginewright_runtime.engine.executor import Limits
from enginewright_runtime.errors import PlanError
from enginewright_runtime.plan import container, records
from enginewright_runtime.plan.manifest import Binding, Manifest, Schedule, Segment
from enginewright_runtime.plan.recipe import Recipe
from enginewright_runtime.plan.target import TargetKind, TargetRequirement

# Where one_layer.py lies, cuda_on_host and networks: neither tests/ nor examples/ is a package.
_HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(_HERE), str(_HERE.parent), str(_HERE.parents[1] / "examples")]


def _gpus() -> int:
    """As the driver counts them, without any of CUDA's packages; 0 where there is no driver."""
    count = ctypes.c_int(0)
    try:
        library = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return 0
    return count.value if library.cuInit(0) == 0 and library.cuDeviceGetCount(ctypes.byref(count)) == 0 else 0


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip every test of this folder where no GPU can be used."""
    mine = [item for item in items if item.get_closest_marker("gpu")]
    if mine and not _gpus():
        for item in mine:
            item.add_marker(pytest.mark.skip(reason="needs an NVIDIA GPU"))


class Kept:
    """Blobs in memory."""

    def __init__(self, blobs: Mapping[str, bytes]) -> None:
        self.blobs = blobs

    def blob(self, name: str) -> memoryview:
        try:
            return memoryview(self.blobs[name])
        except KeyError as error:
            raise PlanError(f"no blob {name!r}") from error


class Tiny:
    """Programs of the kernels in tiny.cu, compiled for this GPU; a fixture, since tests cannot import one another."""

    COUNT = 1000
    X = np.random.default_rng(7).standard_normal(COUNT).astype(np.float32)

    def __init__(self) -> None:
        from enginewright_runtime.engine.cuda.driver import gpu

        self.cubin = self.compiled(Path(__file__).with_name("tiny.cu").read_text(), gpu().resources().capability)

    @staticmethod
    def compiled(source: str, capability: int) -> bytes:
        """A cubin for one architecture."""
        from cuda.bindings import nvrtc

        options = [f"--gpu-architecture=sm_{capability}".encode(), b"--std=c++17"]
        _, program = nvrtc.nvrtcCreateProgram(source.encode(), b"tiny.cu", 0, [], [])
        (code,) = nvrtc.nvrtcCompileProgram(program, len(options), options)
        if code:
            _, size = nvrtc.nvrtcGetProgramLogSize(program)
            log = bytearray(size)
            nvrtc.nvrtcGetProgramLog(program, log)
            raise AssertionError(log.decode())
        _, size = nvrtc.nvrtcGetCUBINSize(program)
        data = bytearray(size)
        nvrtc.nvrtcGetCUBIN(program, data)
        return bytes(data)

    @staticmethod
    def at(space: Space, name: str = "", offset: int = 0) -> Argument:
        return Argument(pointer=Pointer(space=space, name=name, offset=offset))

    @staticmethod
    def number(value: int) -> Argument:
        return Argument(value=struct.pack("<i", value).hex())

    @staticmethod
    def kernel(function: str, *arguments: Argument, blocks: int = 8, threads: int = 128, **more: Any) -> Step:
        record = Kernel(
            cubin="tiny", function=function, grid=(blocks, 1, 1), block=(threads, 1, 1), arguments=arguments, **more
        )
        return Step(layer=function, kernel=record)

    @staticmethod
    def floats(name: str, count: int = COUNT) -> Tensor:
        return Tensor(name=name, dtype="float32", shape=(count,), bytes=4 * count)

    def chain(self, scale: float = 1.0) -> tuple[DeviceProgram, dict[str, bytes], Callable[[Any], Any]]:
        """y = 2 * (x + w), the second kernel launched dependently: program, blobs, and what it should give."""
        weights = np.arange(self.COUNT, dtype=np.float32) * np.float32(scale)
        first = (self.at(Space.INPUT, "x"), self.at(Space.BLOB, "w"), self.at(Space.ARENA), self.number(self.COUNT))
        second = (self.at(Space.ARENA), self.at(Space.OUTPUT, "y"), self.number(self.COUNT))
        program = DeviceProgram(
            inputs=(self.floats("x"),),
            outputs=(self.floats("y"),),
            arena_bytes=4 * self.COUNT,
            steps=(self.kernel("add", *first), self.kernel("twice", *second, dependent=True)),
        )
        return program, {"w": weights.tobytes(), "tiny": self.cubin}, lambda x: (x + weights) * 2

    def loaded(self, program: DeviceProgram, blobs: Mapping[str, bytes], contexts: int = 1) -> CudaExecutor:
        """An executor of a program."""
        kept = Kept({**blobs, "program": records.canonical(program)})
        inputs, outputs = (tuple(each.name for each in tensors) for tensors in (program.inputs, program.outputs))
        segment = Segment(executor="cuda", inputs=inputs, outputs=outputs, blob="program")
        return CudaExecutor(segment, kept, Limits(threads=1, contexts=contexts))

    def executor(self, contexts: int = 1, scale: float = 1.0) -> tuple[CudaExecutor, Callable[[Any], Any]]:
        """An executor of the chain, and what it should give."""
        program, blobs, expected = self.chain(scale)
        return self.loaded(program, blobs, contexts), expected

    def plan(self, folder: Path, *, program: Mapping[str, Any] | None = None, **target: Any) -> Path:
        """A plan file of the chain for this GPU, or with fields of its program and of its target as they are given."""
        made, blobs, _ = self.chain()
        stored = {**blobs, "program": records.canonical(replace(made, **(program or {})))}
        here = available.describe_cuda(())
        assert here is not None
        recipe = Recipe(model="sha256:" + "0" * 64, target=TargetRequirement(kind=TargetKind.CUDA), builder="0.1.0")
        x, y = (Binding(name=name, dtype="float32", shape=(self.COUNT,)) for name in "xy")
        segment = Segment(executor="cuda", inputs=("x",), outputs=("y",), blob="program")
        manifest = Manifest(
            recipe=recipe,
            digest=recipe.digest,
            target=replace(here, **target),
            builder="0.1.0",
            schedules=(Schedule(inputs=(x,), outputs=(y,), segments=(segment,)),),
            blobs=container.layout(stored),
        )
        container.write(folder / "tiny.plan", manifest, stored)
        return folder / "tiny.plan"


@pytest.fixture(scope="session")
def tiny() -> Tiny:
    """Compiled once."""
    return Tiny()


@pytest.fixture(scope="session")
def device() -> Device:
    """The GPU."""
    from enginewright_builder.device import workshop  # imports cupy

    return workshop.describe()


@pytest.fixture(scope="session")
def ampere(device: Device) -> Device:
    """The GPU, of compute capability 8.0 or later."""
    if device.capability < 80:
        pytest.skip("needs a GPU of compute capability 8.0 or later")
    return device


@pytest.fixture(scope="session")
def hopper(device: Device) -> Device:
    """The GPU, of compute capability 9.0."""
    if device.capability != 90:
        pytest.skip("needs a GPU of compute capability 9.0")
    return device
