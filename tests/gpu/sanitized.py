"""The process that sanitize.py watches: pytest, device memory without a pool, kernels compiled with their lines, none
of the vendors', which are not ours to prove and take minutes."""

import sys
from pathlib import Path
from typing import Any

import cupy
import pytest

from enginewright_builder.device import compile as compiler
from enginewright_builder.tactics.cublaslt import CublasLtTactic
from enginewright_builder.tactics.cudnn import CudnnTactic
from enginewright_runtime.engine.cuda.driver import gpu

HERE = Path(__file__).parent


class Exact:
    """What the driver asks of a pool, each block allocated and freed by itself: cupy's pool rounds up to 512 bytes."""

    def malloc(self, count: int) -> Any:
        """As many bytes as are asked for."""
        return cupy.cuda.MemoryPointer(cupy.cuda.Memory(count), 0)

    def free_bytes(self) -> int:
        """None is kept."""
        return 0

    def free_all_blocks(self) -> None:
        """None is kept."""


if __name__ == "__main__":
    compiler._ALWAYS = (*compiler._ALWAYS, "--generate-line-info")
    gpu()._pool = Exact()
    for vendor in (CublasLtTactic, CudnnTactic):
        vendor.candidates = lambda *_: ()  # type: ignore[method-assign]
    chosen = [f"{HERE}/{each}" for each in sys.argv[1:]]
    sys.exit(
        pytest.main(["-m", "gpu", "-x", "-p", "no:cacheprovider", "-p", "no:xdist", "-p", "no:benchmark", *chosen])
    )
