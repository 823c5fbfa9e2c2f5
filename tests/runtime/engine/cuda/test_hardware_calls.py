"""The thin edges, as far as they can be seen without a GPU: TMA descriptors' arguments, NVML's answers, the target."""

import ctypes
import importlib
import sys
from types import SimpleNamespace
from typing import Any

import pytest

from enginewright_runtime.engine.cuda import nvml, tensor_maps
from enginewright_runtime.engine.cuda.program import Im2col, Pointer, Space, TensorMap
from enginewright_runtime.errors import PlanError
from enginewright_runtime.plan.target import Target, TargetKind

ARENA = Pointer(space=Space.ARENA)


class Library:
    """libcuda as far as descriptors go: keeps the arguments, writes a pattern where the descriptor belongs."""

    def __init__(self, code: int = 0) -> None:
        self.code = code
        self.calls: list[tuple[str, list[Any]]] = []

    def cuTensorMapEncodeTiled(self, *arguments: Any) -> int:
        return self._called("tiled", arguments)

    def cuTensorMapEncodeIm2col(self, *arguments: Any) -> int:
        return self._called("im2col", arguments)

    def _called(self, name: str, arguments: Any) -> int:
        ctypes.memset(arguments[0].value, 0xAB, 128)
        self.calls.append((name, [list(a) if isinstance(a, ctypes.Array) else a.value for a in arguments]))
        return self.code


def test_a_tiled_descriptor_is_asked_for_as_the_driver_wants_it() -> None:
    library = Library()
    described = TensorMap(
        pointer=ARENA, dtype="float16", dims=(64, 56, 1), strides=(128, 7168), box=(64, 8, 1), swizzle=128
    )
    assert tensor_maps.encode(library, described, 4096) == (0, b"\xab" * 128)
    ((name, arguments),) = library.calls
    assert name == "tiled"
    assert arguments[0] % 64 == 0
    assert arguments[1:] == [6, 3, 4096, [64, 56, 1], [128, 7168], [64, 8, 1], [1, 1, 1], 0, 3, 2, 0]


def test_an_im2col_descriptor_has_corners_channels_and_pixels() -> None:
    library = Library(code=1)
    described = TensorMap(
        pointer=ARENA,
        dtype="float32",
        dims=(32, 8, 8, 2),
        strides=(128, 1024, 8192),
        element_strides=(1, 2, 2, 1),
        l2_promotion=256,
        im2col=Im2col(lower=(-1, -1), upper=(-1, -1), channels=32, pixels=64),
    )
    assert tensor_maps.encode(library, described, 0)[0] == 1
    ((name, arguments),) = library.calls
    assert name == "im2col"
    assert arguments[1:] == [
        7, 4, None, [32, 8, 8, 2], [128, 1024, 8192], [-1, -1], [-1, -1], 32, 64, [1, 2, 2, 1], 0, 0, 3, 0,
    ]  # fmt: skip


class NVMLError(Exception):
    pass


def management(**answers: Any) -> Any:
    """pynvml, as far as it is asked; an answer that is an exception is raised."""

    def answer(name: str) -> Any:
        def asked(*arguments: Any) -> Any:
            given = answers.get(name, NVMLError("not supported"))
            if isinstance(given, list):
                given = given.pop(0)
            if isinstance(given, Exception):
                raise given
            return given

        return asked

    names = ("DeviceGetPowerUsage", "DeviceGetClockInfo", "DeviceGetCurrentClocksEventReasons",
             "DeviceGetTotalEnergyConsumption", "DeviceGetHandleByPciBusId", "SystemGetDriverVersion")  # fmt: skip
    return SimpleNamespace(
        NVMLError=NVMLError,
        NVML_CLOCK_SM=1,
        nvmlInit=lambda: None,
        nvmlShutdown=lambda: None,
        **{f"nvml{name}": answer(name) for name in names},
    )


def watched(monkeypatch: pytest.MonkeyPatch, pynvml: Any) -> nvml.Watch:
    monkeypatch.setitem(sys.modules, "pynvml", pynvml)
    monkeypatch.setattr(nvml, "INTERVAL", 0.001)
    watch = nvml.Watch()
    with nvml.metering("0000:01:00.0") as meter, meter(watch):
        while pynvml is not None and len(watch.samples) < 2:
            pass
    return watch


def test_a_meter_adds_energy_power_clocks_and_reasons(monkeypatch: pytest.MonkeyPatch) -> None:
    pynvml = management(
        DeviceGetHandleByPciBusId="gpu",
        DeviceGetPowerUsage=250_000,
        DeviceGetClockInfo=1980,
        DeviceGetCurrentClocksEventReasons=0x4,
        DeviceGetTotalEnergyConsumption=[1000, 3500],
    )
    watch = watched(monkeypatch, pynvml)
    assert watch.joules == 2.5
    assert watch.samples[0] == nvml.Sample(watts=250.0, megahertz=1980, reasons=0x4)
    assert watch.throttled() == {"power limit": 1.0}
    assert watch.seconds > 0


def test_a_gpu_that_tells_nothing_is_not_guessed_at(monkeypatch: pytest.MonkeyPatch) -> None:
    watch = watched(monkeypatch, management(DeviceGetHandleByPciBusId="gpu"))
    assert (watch.energy(), watch.clocks(), watch.throttled()) == (None, None, {})


def test_without_the_management_library_there_are_no_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    assert watched(monkeypatch, None) == nvml.Watch()
    assert nvml.driver_version() == ""


def test_a_machine_without_nvidias_library_has_no_driver_version(monkeypatch: pytest.MonkeyPatch) -> None:
    broken = management()

    def refuse() -> None:
        raise NVMLError("library not found")

    broken.nvmlInit = refuse
    monkeypatch.setitem(sys.modules, "pynvml", broken)
    assert nvml.driver_version() == ""


@pytest.mark.parametrize("version", ["580.159.04", b"580.159.04"])
def test_the_drivers_version_is_text(monkeypatch: pytest.MonkeyPatch, version: str | bytes) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", management(SystemGetDriverVersion=version))
    assert nvml.driver_version() == "580.159.04"


def test_only_the_libraries_that_are_asked_for_are_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("cupy", reason="the GPU's packages are not installed")
    from enginewright_runtime.engine.cuda import describing, steps

    asked: list[str] = []

    def library(name: str) -> Any:
        asked.append(name)
        if name == "cudnn":
            raise PlanError("not installed")
        return SimpleNamespace(version="13.1")

    monkeypatch.setattr(steps, "library", library)
    found = Target(kind=TargetKind.CUDA, architecture="x86_64", product="H200")
    monkeypatch.setattr(describing, "gpu", lambda: SimpleNamespace(describe=lambda: found, cuda_version=lambda: "13.0"))
    assert describing.describe(4, {"cublaslt": ""}).libraries == {"cublaslt": "13.1"}
    assert asked == ["cublaslt"]
    everything = describing.describe(4, None)
    assert set(everything.libraries) == {"cuda", "cublaslt", "onnxruntime"}
    assert everything.processors == 4


def test_a_stream_goes_back_to_those_that_nobody_uses(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[object] = []

    class Stream:
        def __init__(self, *, non_blocking: bool) -> None:
            made.append(self)
            self.ptr = len(made)

    failure = type("CUDARuntimeError", (RuntimeError,), {})
    runtime = SimpleNamespace(CUDARuntimeError=failure)
    name = "enginewright_runtime.engine.cuda.streams"
    monkeypatch.setitem(sys.modules, "cupy", SimpleNamespace(cuda=SimpleNamespace(Stream=Stream, runtime=runtime)))
    monkeypatch.setitem(sys.modules, name, sys)  # what is put there is gone after the test
    monkeypatch.setattr("enginewright_runtime.engine.cuda.streams", None, raising=False)
    del sys.modules[name]
    streams = importlib.import_module(name)

    idle: list[Any] = []
    first, second = streams.CudaStream(idle), streams.CudaStream(idle)
    assert (first.handle, second.handle) == (1, 2)
    first.close()
    first.close()
    assert streams.CudaStream(idle).handle == 1
    assert streams.CudaStream(idle).handle == 3
