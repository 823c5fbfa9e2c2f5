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
    ],
)
def test_what_a_gpu_plan_depends_on_is_named(change: dict[str, Any], words: str) -> None:
    assert differences(GPU, replace(GPU, **change)) == (words,)


@pytest.mark.parametrize("change", [{"processors": 64}, {"product": "Epyc"}, {"libraries": {}}, {"memory": 1}])
def test_a_cpu_plan_depends_on_the_architecture_alone(change: dict[str, Any]) -> None:
    assert differences(CPU, replace(CPU, **change)) == ()


def test_a_plan_for_another_target_is_refused_with_every_difference() -> None:
    here = replace(GPU, product="A10", compute_capability="8.6")
    with pytest.raises(TargetMismatchError, match=r"x\.plan .*9\.0, .*8\.6; product: .*A10\): build it") as caught:
        require_same(GPU, here, plan="x.plan")
    assert caught.value.outcome is Outcome.WRONG_DEVICE


def test_an_empty_requirement_asks_for_nothing() -> None:
    assert unmet(TargetRequirement(kind=TargetKind.CUDA), GPU) == ()


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"product": "H20"}, "product: wanted H20, got H200"),
        ({"memory": 141 << 30}, f"memory: wanted {141 << 30} bytes, got {140 << 30}"),
        ({"mig_profile": "1g.18gb"}, "MIG profile: wanted 1g.18gb, got none"),
    ],
)
def test_what_a_requirement_lacks_is_named(asked: dict[str, Any], words: str) -> None:
    assert unmet(TargetRequirement(kind=TargetKind.CUDA, **asked), GPU) == (words,)
