"""Which GPU classes this machine is."""

import pytest

from enginewright_operator.api import GPUClass, GPUClassSpec, ObjectMeta
from enginewright_operator.local import hardware
from enginewright_runtime.plan.target import TargetKind


def gpu_class(**spec) -> GPUClass:
    return GPUClass(metadata=ObjectMeta(name="x"), spec=GPUClassSpec(**spec))


def test_a_cpu_class_is_every_machine() -> None:
    assert hardware.why_not(gpu_class(kind=TargetKind.CPU), ()) == ""


def test_another_architecture_is_named() -> None:
    found = hardware.why_not(gpu_class(kind=TargetKind.CPU, architecture="aarch64"), (), architecture="x86_64")
    assert found == "it asks for a CPU of architecture aarch64, and this machine's is x86_64"


def test_a_machine_without_a_gpu_is_told_so() -> None:
    assert "H200, and this machine has none" in hardware.why_not(gpu_class(kind=TargetKind.CUDA, product="H200"), ())


def test_another_gpu_is_named() -> None:
    found = hardware.why_not(gpu_class(kind=TargetKind.CUDA, product="A10"), ["NVIDIA-A100-SXM4-40GB"])
    assert "this machine has NVIDIA-A100-SXM4-40GB" in found


def test_the_right_gpu_is_this_machine() -> None:
    assert hardware.why_not(gpu_class(kind=TargetKind.CUDA, product="H200"), ["NVIDIA-H200"]) == ""


@pytest.fixture
def nvidia_smi(tmp_path, monkeypatch):
    def install(script: str) -> None:
        program = tmp_path / "nvidia-smi"
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(0o755)
        monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")

    return install


def test_the_gpus_are_named_as_gpu_feature_discovery_names_them(nvidia_smi) -> None:
    nvidia_smi("echo 'NVIDIA H100 80GB HBM3'; echo 'NVIDIA H100 80GB HBM3'")
    assert hardware.products() == ("NVIDIA-H100-80GB-HBM3",) * 2


def test_a_driver_that_does_not_answer_means_no_gpu(nvidia_smi) -> None:
    nvidia_smi("echo 'driver mismatch'; exit 9")
    assert hardware.products() == ()
