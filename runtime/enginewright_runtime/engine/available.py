"""What this machine is and how much of it this process may use."""

import ctypes
import math
import os
import platform
import threading
from collections.abc import Collection
from pathlib import Path

from enginewright_runtime.errors import MissingExtraError
from enginewright_runtime.plan.target import Target, TargetKind

CGROUPS = Path("/sys/fs/cgroup")


def describe(built_for: Target) -> Target:
    """This machine as a plan for `built_for` meets it: its GPU where the plan wants one and there is one, else its CPU.

    Only the libraries that the plan names are looked at, since some take a tenth of a second to load.
    """
    here = describe_cuda(built_for.libraries) if built_for.kind is TargetKind.CUDA else None
    return here or describe_host()


def describe_cuda(libraries: Collection[str] | None = None) -> Target | None:
    """The first GPU that this process may use as a target, or None where there is no GPU.

    `libraries` are the names whose versions are wanted, by default all that there are: cuda (what the driver speaks),
    cudnn, cublaslt, onnxruntime. What is not installed is left out. Raises MissingExtraError where there is a GPU and
    no package to use it with.
    """
    if not has_gpu():
        return None
    try:
        from enginewright_runtime.engine.cuda import describing
    except ImportError as error:
        package = error.name or "cupy"
        raise MissingExtraError(package=package, extra="cuda13", purpose="The target cuda") from error
    return describing.describe(processors(), libraries)


def has_gpu() -> bool:
    """Whether NVIDIA's driver offers a GPU to this process; asks the driver itself, so it needs no package."""
    count = ctypes.c_int(0)
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return False
    return driver.cuInit(0) == 0 and driver.cuDeviceGetCount(ctypes.byref(count)) == 0 and count.value > 0


def wake_gpu() -> None:
    """Begin to open the GPU, in a thread: making its context takes some tenths of a second, and Python is free for
    something else. Whoever needs the GPU finds the context, or waits for it. Does nothing where there is no GPU.
    """
    threading.Thread(target=_open_gpu, name="wake the GPU").start()


def _open_gpu() -> None:
    """Make the context that a process has in common, of the device that all of us use."""
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return
    device, context = ctypes.c_int(0), ctypes.c_void_p()
    if driver.cuInit(0) == 0 and driver.cuDeviceGet(ctypes.byref(device), 0) == 0:
        driver.cuDevicePrimaryCtxRetain(ctypes.byref(context), device)  # what fails here fails again where it is told


def describe_host() -> Target:
    """This machine as a target of kind `cpu`."""
    import onnxruntime  # here, because whoever only counts processors should not load it

    return Target(
        kind=TargetKind.CPU,
        architecture=platform.machine(),
        product=cpu_model(_read(Path("/proc/cpuinfo"))),
        processors=processors(),
        memory=os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"),
        libraries={"onnxruntime": onnxruntime.__version__},
    )


def processors() -> int:
    """CPUs that this process may keep busy: its affinity, cut to the quota of its control group, at least 1."""
    allowed = len(os.sched_getaffinity(0))
    share = quota(_read(Path("/proc/self/cgroup")), CGROUPS)
    return max(1, min(allowed, math.ceil(share)) if share else allowed)


def cores() -> tuple[int, ...]:
    """The CPUs that threads may be bound to, by the system's numbers: those that this process may run on. None where
    its quota is less, since other processes are meant to run there too.
    """
    allowed = tuple(sorted(os.sched_getaffinity(0)))
    return allowed if len(allowed) == processors() else ()


def quota(membership: str, root: Path) -> float:
    """CPUs that the control groups in `membership` (/proc/self/cgroup) grant; 0 where none sets a limit.

    A group's limit binds all groups below it, so every ancestor is asked. Version 2 has cpu.max ("max 100000"),
    version 1 has cpu.cfs_quota_us (-1 for none) and cpu.cfs_period_us: Linux, Documentation/admin-guide/cgroup-v2.rst.
    """
    shares: list[float] = []
    for line in membership.splitlines():
        _, controllers, path = line.split(":", 2)
        names = controllers.split(",") if controllers else []
        if names and "cpu" not in names:
            continue
        for base in (root, root / "cpu") if names else (root,):
            group = base / path.lstrip("/")
            shares += [_share(folder) for folder in (group, *group.parents) if folder.is_relative_to(root)]
    return min((share for share in shares if share > 0), default=0.0)


def cpu_model(cpuinfo: str) -> str:
    """The CPU's name as /proc/cpuinfo gives it; empty where it gives none (many ARM machines)."""
    for line in cpuinfo.splitlines():
        name, _, value = line.partition(":")
        if name.strip() == "model name":
            return value.strip()
    return ""


def _share(folder: Path) -> float:
    words = _read(folder / "cpu.max").split()
    if not words:
        words = [*_read(folder / "cpu.cfs_quota_us").split(), *_read(folder / "cpu.cfs_period_us").split()]
    if len(words) != 2 or words[0] in ("max", "-1") or not words[1].isdigit():
        return 0.0
    return int(words[0]) / max(1, int(words[1]))


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""  # not every machine has every file: what cannot be read sets no limit
