"""The GPU's context, begun in a thread."""

import ctypes
import os
import threading
from collections.abc import Callable

import pytest

from enginewright_runtime.engine import available


class Driver:
    """libcuda as far as contexts go, which notes who asks for what."""

    def __init__(self, failing: str = "") -> None:
        self.failing = failing
        self.asked: list[str] = []

    def __getattr__(self, name: str) -> Callable[..., int]:
        def call(*_arguments: object) -> int:
            self.asked.append(f"{name} in {threading.current_thread().name}")
            return int(name == self.failing)

        return call


def woken(monkeypatch: pytest.MonkeyPatch, driver: Driver) -> list[str]:
    monkeypatch.setattr(ctypes, "CDLL", lambda _name: driver)
    available.wake_gpu()
    for thread in threading.enumerate():
        if thread.name == "wake the GPU":
            thread.join()
    return [each.partition(" in ")[0] for each in driver.asked if each.endswith("in wake the GPU")]


def test_the_context_is_made_in_a_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    assert woken(monkeypatch, Driver()) == ["cuInit", "cuDeviceGet", "cuDevicePrimaryCtxRetain"]


def test_a_driver_without_a_gpu_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    assert woken(monkeypatch, Driver(failing="cuInit")) == ["cuInit"]


@pytest.mark.parametrize(("share", "wanted"), [(0.0, (1, 4)), (2.0, (1, 4)), (1.0, ())])
def test_threads_may_be_bound_to_cores_that_a_quota_grants_whole(
    share: float, wanted: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: {4, 1})
    monkeypatch.setattr(available, "quota", lambda *_: share)
    assert available.cores() == wanted
