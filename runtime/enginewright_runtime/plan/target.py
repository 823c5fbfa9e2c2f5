"""What a plan runs on, and the difference between two targets in words.

`TargetRequirement` is what a GPU class asks for before anything runs (part of a recipe). `Target` is what a machine
really is (part of a plan's manifest). A plan is refused on a target that differs in what its segments depend on.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from enginewright_runtime.errors import TargetMismatchError

SAME_MEMORY = 0.95  # two cards of one product differ by what firmware and error correction keep for themselves


VENDORS = ("NVIDIA", "Tesla")  # what stands before a product in a driver's names of GPUs


class TargetKind(StrEnum):
    """The two families of target."""

    CPU = "cpu"
    CUDA = "cuda"


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetRequirement:
    """What a GPU class asks of a machine. Empty fields ask for nothing.

    `architecture` is the CPU's (x86_64, aarch64), `compute_capability` the GPU's ("9.0"), `product` its name without
    vendor prefixes ("H200"), `memory` its bytes, `mig_profile` as NVIDIA writes it ("1g.18gb"), `driver` the branch of
    NVIDIA's driver to build with ("580"): what is built with one loads on that branch and on newer ones.
    """

    kind: TargetKind
    architecture: str = ""
    compute_capability: str = ""
    product: str = ""
    memory: int = 0
    mig_profile: str = ""
    driver: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """What a machine is, as the builder or the runtime found it. `libraries` maps a name to its version."""

    kind: TargetKind
    architecture: str
    product: str = ""
    processors: int = 0
    compute_capability: str = ""
    memory: int = 0
    mig_profile: str = ""
    driver: str = ""
    libraries: Mapping[str, str] = field(default_factory=dict)


def product_of(device: str) -> tuple[str, str]:
    """Product and MIG profile of a GPU from the name that its driver gives it.

    "NVIDIA H200 MIG 1g.18gb" is ("H200", "1g.18gb"), "NVIDIA H100 80GB HBM3" ("H100-80GB-HBM3", ""): without the
    vendor, and dashes for spaces as GPU Feature Discovery writes the node label nvidia.com/gpu.product.
    """
    name, _, profile = device.strip().partition(" MIG ")
    for vendor in VENDORS:
        name = name.removeprefix(f"{vendor} ")
    return "-".join(name.split()), profile.strip()


def unmet(requirement: TargetRequirement, target: Target) -> tuple[str, ...]:
    """Why `target` is not what `requirement` asks for, each reason in words; empty if it is."""
    pairs = (
        ("kind of target", requirement.kind, target.kind),
        ("CPU architecture", requirement.architecture, target.architecture),
        ("compute capability", requirement.compute_capability, target.compute_capability),
        ("product", requirement.product, target.product),
        ("MIG profile", requirement.mig_profile, target.mig_profile),
        ("driver's branch", requirement.driver, str(driver_branch(target.driver) or "")),
    )
    reasons = [f"{name}: wanted {want}, got {got or 'none'}" for name, want, got in pairs if want and want != got]
    if requirement.memory > target.memory:
        reasons.append(f"memory: wanted {requirement.memory} bytes, got {target.memory}")
    return tuple(reasons)


def differences(built_for: Target, here: Target) -> tuple[str, ...]:
    """What keeps a plan built for one target from running on another, each in words; empty if it may run.

    A CPU plan depends on the architecture alone: its segments are portable, and thread counts are capped where they
    are loaded. A CUDA plan holds machine code and vendor plans, which depend on the GPU and on the libraries that
    `built_for` names: those that the plan's programs call, whatever else this machine has. More memory than it was
    built for is no difference, and neither is a newer driver.
    """
    pairs = [
        ("kind of target", built_for.kind, here.kind),
        ("CPU architecture", built_for.architecture, here.architecture),
    ]
    if built_for.kind is TargetKind.CUDA:
        pairs += [
            ("compute capability", built_for.compute_capability, here.compute_capability),
            ("product", built_for.product, here.product),
            ("MIG profile", built_for.mig_profile, here.mig_profile),
        ]
        pairs += [
            (f"version of {name}", version, here.libraries.get(name, ""))
            for name, version in sorted(built_for.libraries.items())
        ]
    found = [f"{name}: built for {a or 'none'}, this machine has {b or 'none'}" for name, a, b in pairs if a != b]
    if built_for.kind is here.kind is TargetKind.CUDA:
        found += _shortfalls(built_for, here)
    return tuple(found)


def _shortfalls(built_for: Target, here: Target) -> list[str]:
    found = []
    if here.memory < built_for.memory * SAME_MEMORY:
        found.append(f"memory: built for {_gibibytes(built_for.memory)}, this machine has {_gibibytes(here.memory)}")
    if 0 < driver_branch(here.driver) < driver_branch(built_for.driver):
        found.append(f"driver: built with {built_for.driver}, this machine has the older {here.driver}")
    return found


def driver_branch(driver: str) -> int:
    """NVIDIA's driver branch, 580 of 580.159.04: what is built with one runs on every driver of the branch."""
    branch = driver.split(".", 1)[0]
    return int(branch) if branch.isdecimal() else 0


def _gibibytes(count: int) -> str:
    return f"{count / (1 << 30):.1f} GiB"


def require_same(built_for: Target, here: Target, *, plan: str) -> None:
    """Raise TargetMismatchError, naming every difference, if a plan for one target cannot run on the other."""
    found = differences(built_for, here)
    if found:
        raise TargetMismatchError(
            f"The plan {plan} is for another target ({'; '.join(found)}): build it for this one with "
            f"`enginewright build --target {here.kind}`, or load it where it belongs."
        )
