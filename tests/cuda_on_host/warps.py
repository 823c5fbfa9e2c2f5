"""Runs kernels that use a warp's matrix instructions without a GPU: warp_on_host.h stands in for the headers of PTX."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from cuda_on_host.running import Array, run_on_host

from enginewright_builder.tactics import kernel_text
from enginewright_runtime.engine.cuda.program import Kernel, Space

HEADERS = ("latency.cuh", "activations.cuh", "warp_matrix.cuh")  # in the order in which a kernel has them
SHARED = "extern __shared__ __align__(128) u8 memory[];"


def launch(kernels: Sequence[Kernel], sources: Mapping[str, str], buffers: Mapping[tuple[Space, str], Array]) -> None:
    """As run_on_host, for texts that hold all of HEADERS."""
    run_on_host(kernels, {name: _on_host(text) for name, text in sources.items()}, buffers)


def _on_host(source: str) -> str:
    own = Path(__file__).with_name("warp_on_host.h").read_text()
    for header in HEADERS:
        text = kernel_text.header(header)
        assert text in source, header
        source, own = source.replace(text, own), ""
    assert SHARED in source
    return source.replace(SHARED, "u8* memory = shared_memory();")
