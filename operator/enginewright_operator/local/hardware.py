"""Whether a GPU class is this machine: asked of NVIDIA's own program, since the operator loads no CUDA."""

import platform
import shutil
import subprocess
from collections.abc import Sequence

from enginewright_operator import gpu
from enginewright_operator.api import GPUClass
from enginewright_runtime.plan.target import TargetKind


def products() -> tuple[str, ...]:
    """The GPUs of this machine as GPU Feature Discovery would label them, as in NVIDIA-H200; empty without any."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return ()
    asked = [program, "--query-gpu=name", "--format=csv,noheader"]
    try:
        answer = subprocess.run(asked, capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ()
    names = answer.stdout.splitlines() if answer.returncode == 0 else []
    return tuple(name.strip().replace(" ", "-") for name in names if name.strip())


def why_not(gpu_class: GPUClass, found: Sequence[str], *, architecture: str = platform.machine()) -> str:
    """Why a class is not this machine, whose GPUs are `found`, in a clause; empty if it is."""
    spec = gpu_class.spec
    if spec.architecture and spec.architecture != architecture:
        return f"it asks for a CPU of architecture {spec.architecture}, and this machine's is {architecture}"
    if spec.kind is TargetKind.CPU:
        return ""
    if not found:
        return f"it asks for a GPU {spec.product}, and this machine has none"
    if not product_here(gpu_class, found):
        return f"it asks for a GPU {spec.product}, and this machine has {', '.join(sorted(set(found)))}"
    return ""


def product_here(gpu_class: GPUClass, found: Sequence[str]) -> str:
    """The product of the class that this machine has, whose GPUs are `found`; empty where it has none."""
    listed = gpu.products(gpu_class.spec)
    if not listed and gpu_class.spec.kind is TargetKind.CUDA:
        return gpu.product_of(found[0]) if found else ""
    return next((product for product, labels in listed.items() if set(labels) & set(found)), "")
