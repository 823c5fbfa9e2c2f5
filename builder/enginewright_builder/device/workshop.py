"""The GPU of this machine as a builder uses it: what it is, and the runtime's own session to run candidates with."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import cuda.bindings.driver as cuda

from enginewright_builder.device import compile as compiler
from enginewright_builder.device import compile_triton
from enginewright_builder.device.implementation import Device
from enginewright_builder.device.schedule import Workshop
from enginewright_builder.device.session_bench import SessionBench
from enginewright_builder.rehearsal import rehearsals
from enginewright_builder.tuning import caching
from enginewright_builder.tuning.caching import Address
from enginewright_runtime.engine import available
from enginewright_runtime.errors import TargetMismatchError

_ATTRIBUTE = cuda.CUdevice_attribute


@contextmanager
def opened(
    address: Address, builder: str, step: Callable[[str], None], say: Callable[[str], None]
) -> Iterator[Workshop]:
    """The workshop on this machine's GPU, with the timing cache at `address`. `say` hears what a person should know."""
    device = describe()
    with caching.opened(address, [device, builder], say) as timings, rehearsals.opened(say) as rehearsing:
        yield Workshop(device=device, bench=SessionBench(), timings=timings, step=step, rehearsals=rehearsing)


def describe() -> Device:
    """This machine's GPU as tactics ask for it."""
    target = available.describe_cuda()
    if target is None:
        raise TargetMismatchError("There is no NVIDIA GPU here to build for: check nvidia-smi, or use --target cpu.")
    major, _, minor = target.compute_capability.partition(".")
    return Device(
        capability=int(major) * 10 + int(minor),
        multiprocessors=_attribute(_ATTRIBUTE.CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT),
        l2_bytes=_attribute(_ATTRIBUTE.CU_DEVICE_ATTRIBUTE_L2_CACHE_SIZE),
        shared_bytes=_attribute(_ATTRIBUTE.CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN),
        libraries={
            **target.libraries,
            "nvrtc": compiler.version(),
            "driver": target.driver,
            "product": target.product,
            **({"triton": compile_triton.version()} if compile_triton.version() else {}),
        },
    )


def _attribute(which: cuda.CUdevice_attribute) -> int:
    result, value = cuda.cuDeviceGetAttribute(which, 0)
    assert result == cuda.CUresult.CUDA_SUCCESS, f"the driver does not know {which.name}: {result}"
    return int(value)
