"""Targets: what differs, in words, and who may run what."""

from dataclasses import replace
from typing import Any

import pytest

from enginewright_runtime.errors import TargetMismatchError
from enginewright_runtime.plan.outcome import Outcome
from enginewright_runtime.plan.target import (
    Target,
    TargetKind,
    TargetRequirement,
    differences,
    product_of,
    require_same,
    unmet,
)

CPU = Target(
    kind=TargetKind.CPU, architecture="x86_64", product="Xeon", processors=2, libraries={"onnxruntime": "1.22"}
)
GPU = Target(
    kind=TargetKind.CUDA,
    architecture="x86_64",
    product="H200",
    compute_capability="9.0",
    memory=140 << 30,
    driver="580.159.04",
    libraries={"cudnn": "9.1"},
)


def test_a_target_does_not_differ_from_itself() -> None:
    assert differences(GPU, GPU) == ()
    require_same(GPU, GPU, plan="x.plan")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"product": "A10"}, "product: built for H200, this machine has A10"),
        ({"compute_capability": "8.6"}, "compute capability: built for 9.0, this machine has 8.6"),
        ({"mig_profile": "1g.18gb"}, "MIG profile: built for none, this machine has 1g.18gb"),
        ({"libraries": {"cudnn": "9.2"}}, "version of cudnn: built for 9.1, this machine has 9.2"),
        ({"libraries": {}}, "version of cudnn: built for 9.1, this machine has none"),
        ({"kind": TargetKind.CPU}, "kind of target: built for cuda, this machine has cpu"),
        ({"architecture": "aarch64"}, "CPU architecture: built for x86_64, this machine has aarch64"),
        ({"memory": 94 << 30}, "memory: built for 140.0 GiB, this machine has 94.0 GiB"),
        ({"driver": "550.54.14"}, "driver: built with 580.159.04, this machine has the older 550.54.14"),
    ],
)
def test_what_a_gpu_plan_depends_on_is_named(change: dict[str, Any], words: str) -> None:
    assert differences(GPU, replace(GPU, **change)) == (words,)


@pytest.mark.parametrize("change", [{"processors": 64}, {"product": "Epyc"}, {"libraries": {}}, {"memory": 1}])
def test_a_cpu_plan_depends_on_the_architecture_alone(change: dict[str, Any]) -> None:
    assert differences(CPU, replace(CPU, **change)) == ()


@pytest.mark.parametrize(
    "change",
    [
        {"memory": 141 << 30},
        {"memory": 139 << 30},  # error correction, firmware
        {"driver": "590.10"},
        {"driver": "580.65.06"},  # of the same branch
        {"driver": ""},  # nothing there that could tell
        {"libraries": {"cudnn": "9.1", "cublaslt": "13.1"}},  # which the plan does not use
        {"processors": 64},
    ],
)
def test_what_a_gpu_plan_does_not_depend_on_is_no_difference(change: dict[str, Any]) -> None:
    assert differences(GPU, replace(GPU, **change)) == ()


def test_a_plan_for_another_target_is_refused_with_every_difference() -> None:
    here = replace(GPU, product="A10", compute_capability="8.6")
    with pytest.raises(TargetMismatchError, match=r"x\.plan .*9\.0, .*8\.6; product: .*A10\): build it") as caught:
        require_same(GPU, here, plan="x.plan")
    assert caught.value.outcome is Outcome.WRONG_DEVICE


@pytest.mark.parametrize(
    ("device", "product", "profile"),
    [
        ("NVIDIA H200", "H200", ""),
        ("NVIDIA H100 80GB HBM3", "H100-80GB-HBM3", ""),
        ("NVIDIA H200 MIG 1g.18gb", "H200", "1g.18gb"),
        ("NVIDIA A100-SXM4-40GB MIG 1g.5gb+me", "A100-SXM4-40GB", "1g.5gb+me"),
        ("Tesla T4", "T4", ""),
        ("NVIDIA RTX A6000", "RTX-A6000", ""),
    ],
)
def test_a_product_is_called_as_its_class_calls_it(device: str, product: str, profile: str) -> None:
    assert product_of(device) == (product, profile)


def test_an_empty_requirement_asks_for_nothing() -> None:
    assert unmet(TargetRequirement(kind=TargetKind.CUDA), GPU) == ()


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"product": "H20"}, "product: wanted H20, got H200"),
        ({"memory": 141 << 30}, f"memory: wanted {141 << 30} bytes, got {140 << 30}"),
        ({"mig_profile": "1g.18gb"}, "MIG profile: wanted 1g.18gb, got none"),
        ({"driver": "570"}, f"driver's branch: wanted 570, got {GPU.driver.partition('.')[0]}"),
    ],
)
def test_what_a_requirement_lacks_is_named(asked: dict[str, Any], words: str) -> None:
    assert unmet(TargetRequirement(kind=TargetKind.CUDA, **asked), GPU) == (words,)
