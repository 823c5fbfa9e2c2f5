"""Arrays that lie on the device, in and out, by the two protocols that everybody speaks.

In: DLPack (torch, JAX, cupy, TensorFlow) first, since it knows bfloat16; then CUDA's array interface, version 3. Out:
a DeviceArray, which speaks both and owns nothing.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from enginewright_runtime.engine.values import dtype_of
from enginewright_runtime.errors import InputError

if TYPE_CHECKING:  # every engine imports this file, to tell where an array lies: a CPU's needs no more of the device
    from enginewright_runtime.engine.cuda.program import Tensor
    from enginewright_runtime.engine.cuda.seam import Borrowed, Driver

CUDA_DEVICE = 2  # dlpack.h, DLDeviceType kDLCUDA


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceArray:
    """A contiguous array on the device: an output of a run, valid until the next run of its context.

    What wrote it may still be running on `stream`; both protocols tell the reader so.
    """

    address: int
    dtype: str
    shape: tuple[int, ...]
    stream: int
    owner: object

    @property
    def __cuda_array_interface__(self) -> Mapping[str, Any]:
        """Version 3. NumPy has no letter for bfloat16 and the small floats: they show as bytes (|V2, |V1)."""
        return {
            "shape": self.shape,
            "typestr": dtype_of(self.dtype).str,
            "data": (self.address, False),
            "version": 3,
            "strides": None,
            "stream": self.stream,
        }

    def __dlpack__(self, *, stream: int | None = None, **options: Any) -> Any:
        """A capsule; the reader's stream waits for what wrote the array."""
        from enginewright_runtime.engine.cuda.driver import gpu

        return gpu().capsule(self, stream, options)

    def __dlpack_device__(self) -> tuple[int, int]:
        """The first GPU."""
        return (CUDA_DEVICE, 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Foreign:
    """Somebody else's array on the device."""

    value: Any

    def copy_to(self, address: int, tensor: "Tensor", driver: "Driver", stream: int) -> "Borrowed":
        """Copy it device to device, in order behind what its maker still has running. Raises InputError.

        What is returned must be kept until the copy has happened.
        """
        seen = driver.borrow(self.value, stream)
        if (seen.dtype, seen.shape) != (tensor.dtype, tensor.shape):
            raise InputError(
                f"The input {tensor.name!r} must be {tensor.dtype} {list(tensor.shape)}, got {seen.dtype} "
                f"{list(seen.shape)} on the device."
            )
        if not seen.contiguous:
            raise InputError(
                f"The input {tensor.name!r} lies on the device with gaps or in another order: make it contiguous first."
            )
        driver.copy(address, seen.address, tensor.bytes, stream)
        return seen


def foreign(value: Any) -> Foreign | None:
    """The value as an array on the device; None for anything else (NumPy's arrays, too, speak DLPack)."""
    if isinstance(value, np.ndarray):
        return None
    device = getattr(value, "__dlpack_device__", None)
    if device is not None:
        return Foreign(value=value) if device()[0] == CUDA_DEVICE else None
    return Foreign(value=value) if hasattr(value, "__cuda_array_interface__") else None
