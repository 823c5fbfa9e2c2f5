"""Compiling: cached by content, refused with one sentence."""

import itertools

import pytest

from enginewright_builder.device import compile as compiler
from enginewright_builder.device import kept
from enginewright_builder.device.compile import KernelCompileError

KERNEL = 'extern "C" __global__ void k(float* to) { to[threadIdx.x] = 1.0f; }'
CROWDED = """
extern "C" __global__ void __launch_bounds__(1024, 2) k(float* x) {
    float held[40];
    #pragma unroll
    for (int i = 0; i < 40; ++i) held[i] = x[i * 1024 + threadIdx.x];
    __syncthreads();
    #pragma unroll
    for (int i = 0; i < 40; ++i) x[threadIdx.x * 40 + i] = held[(i * 7) % 40];
}
"""
ROOMIER = CROWDED.replace("(1024, 2)", "(1024, 1)")


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty cache."""
    monkeypatch.setattr(kept, "CACHE", tmp_path / "cubins")
    return tmp_path / "cubins"


def test_a_kernel_becomes_a_cubin_that_names_it(cache):
    assert b"\0k\0" in compiler.compile(KERNEL, "sm_90a")


def test_the_same_kernel_is_compiled_once(cache, monkeypatch):
    first = compiler.compile(KERNEL, "sm_80")
    monkeypatch.setattr(compiler, "translate", lambda *_: pytest.fail("compiled again"))
    assert compiler.compile(KERNEL, "sm_80") == first


def test_another_architecture_is_another_cubin(cache):
    assert compiler.compile(KERNEL, "sm_80") != compiler.compile(KERNEL, "sm_90a")


def test_the_least_recently_used_leave_a_full_cache(cache, monkeypatch):
    cache.mkdir()
    (cache / "gone").symlink_to(cache / "meanwhile")  # listed, and not there any more
    monkeypatch.setattr(kept, "TRIMMED_AFTER", 1)
    size = len(compiler.compile(KERNEL, "sm_80"))
    monkeypatch.setattr(kept, "CACHE_BYTES", 2 * size + size // 2)
    for number in range(4):
        compiler.compile(KERNEL.replace("1.0f", f"{number}.5f"), "sm_80")
    assert len(list(cache.glob("*.cubin"))) <= 3


def test_the_whole_cache_is_looked_at_once_in_many_kernels(cache, monkeypatch):
    looked = []
    monkeypatch.setattr(kept, "_trim", looked.append)
    monkeypatch.setattr(kept, "_stored", itertools.count())
    monkeypatch.setattr(kept, "TRIMMED_AFTER", 5)
    for number in range(11):
        kept.kept([str(number)], lambda: b"a cubin")
    assert looked == [cache] * 3  # at the first, the sixth and the eleventh


def test_a_cache_that_cannot_be_written_only_costs_time(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(kept, "CACHE", tmp_path / "file" / "cubins")
    assert compiler.compile(KERNEL, "sm_80")[:4] == b"\x7fELF"


def test_a_kernel_that_does_not_compile_is_refused_with_the_compilers_first_words(cache):
    with pytest.raises(KernelCompileError, match=r'does not compile for sm_80 .* identifier "nothing" is undefined'):
        compiler.compile(KERNEL.replace("1.0f", "nothing"), "sm_80")


def test_the_roomier_text_is_taken_where_the_first_one_spills(cache):
    assert " 0 bytes spill stores" not in compiler.resources(CROWDED, "sm_80")
    assert " 0 bytes spill stores" in compiler.resources(CROWDED, "sm_80", roomier=ROOMIER)
    assert compiler.compile(CROWDED, "sm_80", roomier=ROOMIER) == compiler.compile(ROOMIER, "sm_80")


def test_the_first_text_is_kept_where_it_spills_nothing(cache):
    other = KERNEL.replace("1.0f", "2.0f")
    assert compiler.compile(KERNEL, "sm_80", roomier=other) == compiler.compile(KERNEL, "sm_80")


def test_cuda_headers_are_found(cache):
    source = "#include <cuda_fp16.h>\n" + KERNEL.replace("1.0f", "__half2float(__half(1))")
    assert compiler.compile(source, "sm_80")[:4] == b"\x7fELF"


def test_what_ptxas_says_can_be_read(cache):
    assert "registers" in compiler.resources(KERNEL, "sm_80")
