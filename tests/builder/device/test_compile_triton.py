"""Compiling Triton kernels: without a GPU, for every architecture, in a process of its own, launched as they want."""

import re
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from triton_on_host.interpreting import TRITON, needs_triton

from enginewright_builder.device import compile_triton as compiler
from enginewright_builder.device import kept, tensors
from enginewright_builder.device.compile import KernelCompileError
from enginewright_builder.device.compile_triton import TritonKernel
from enginewright_runtime.engine.cuda.program import Pointer, Space
from enginewright_runtime.errors import MissingExtraError

TEXT = """
import triton
import triton.language as tl


@triton.jit
def twice(x, y, COUNT: tl.constexpr, BLOCK: tl.constexpr):
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(y + at, 2 * tl.load(x + at, mask=at < COUNT), mask=at < COUNT)
"""
DESCRIBED = """
import triton
import triton.language as tl


@triton.jit
def twice(x, y, COUNT: tl.constexpr, BLOCK: tl.constexpr):
    tile = tl.make_tensor_descriptor(x, [COUNT, COUNT], [COUNT, 1], [64, 64]).load([0, 0])
    tl.store(y + tl.arange(0, 64)[:, None] * COUNT + tl.arange(0, 64)[None, :], tile)
"""
KIND = tensors.plain("float16", (1024,))
KERNEL = TritonKernel(
    text=TEXT, entry="twice", pointers=(KIND, KIND), constants={"COUNT": 1024, "BLOCK": 256}, warps=8
)  # fmt: skip
POINTERS = [Pointer(space=Space.OPERAND, name=str(number)) for number in range(2)]
CAPABILITIES = (75, 80, 86, 89, 90, 100, 120)


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept, "CACHE", tmp_path / "cubins")


def parameters(cubin: bytes, folder: Path) -> tuple[list[int], int]:
    """Sizes of a kernel's parameters and the threads of a block that it wants, by NVIDIA's own reading of the cubin."""
    assert TRITON is not None
    (root,) = TRITON.submodule_search_locations or ()
    (folder / "k.cubin").write_bytes(cubin)
    command = [f"{root}/backends/nvidia/bin/cuobjdump", "-elf", str(folder / "k.cubin")]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    sizes = {int(o, 16): int(s, 16) for o, s in re.findall(r"Ordinal : (0x\w+).*?Size\s*: (0x\w+)", said)}
    (threads,) = re.findall(r"EIATTR_REQNTID\s+Format:\s+EIFMT_SVAL\s+Value:\s+(0x\w+) 0x1 0x1", said)
    return [sizes[place] for place in sorted(sizes)], int(threads, 16)


@needs_triton
@pytest.mark.parametrize("capability", CAPABILITIES)
def test_the_launch_gives_what_the_cubin_itself_asks_for(capability: int, tmp_path: Path) -> None:
    made = compiler.compile(KERNEL, capability)
    kernel = compiler.launch(made, "k", (4, 1, 1), POINTERS).kernel
    assert kernel is not None
    given = [8 if each.pointer is not None else len(bytes.fromhex(each.value)) for each in kernel.arguments]
    sizes, threads = parameters(made.cubin, tmp_path)
    assert given == sizes == [8] * 4
    assert kernel.block == (threads, 1, 1) == (256, 1, 1)
    assert f"\0{kernel.function}\0".encode() in made.cubin


@needs_triton
def test_scratch_memory_is_taken_from_the_workspace(tmp_path: Path) -> None:
    made = compiler.compile(replace(KERNEL, text=DESCRIBED), 90)
    kernel = compiler.launch(made, "k", (4, 1, 1), POINTERS).kernel
    assert kernel is not None
    assert made.scratch_bytes == 128  # one tensor map
    assert [each.pointer.space if each.pointer else each.value for each in kernel.arguments[2:]] == [
        Space.WORKSPACE,
        "00" * 8,
    ]
    assert kernel.shared_bytes >= 64 * 64 * 2


@needs_triton
def test_the_same_kernel_is_compiled_once_and_is_the_same_wherever_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    first = compiler.compile(KERNEL, 80)
    monkeypatch.setattr(kept, "CACHE", kept.CACHE.with_name("another"))
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    monkeypatch.setenv("PTXAS_OPTIONS", "-O0")
    assert compiler.compile(KERNEL, 80) == first
    monkeypatch.setattr(compiler, "_translated", lambda *_: pytest.fail("compiled again"))
    assert compiler.compile(KERNEL, 80) == first


@needs_triton
@pytest.mark.parametrize(
    ("kernel", "words"),
    [
        (replace(KERNEL, text=TEXT.replace("2 *", "two *")), "NameError.*two is not defined"),
        (replace(KERNEL, entry="thrice"), "the source has no function thrice with triton.jit"),
        (replace(KERNEL, pointers=(KIND,)), "it takes x, y, and the layer gives 1 pointers"),
        (replace(KERNEL, constants={**KERNEL.constants, "BLOCK": 200}), "power of 2"),
        (replace(KERNEL, text="def f(:"), "invalid syntax"),
        (replace(KERNEL, text="import os\n\nos.abort()\n"), "the compiler ended with -6"),
    ],
    ids=["name", "entry", "pointers", "block", "syntax", "abort"],
)
def test_what_does_not_compile_is_refused_with_one_sentence(kernel: TritonKernel, words: str) -> None:
    with pytest.raises(KernelCompileError, match=words) as caught:
        compiler.compile(kernel, 86)
    assert "does not compile for compute capability 8.6 with Triton" in caught.value.message
    assert "\n" not in caught.value.message


def test_without_triton_the_sentence_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiler, "version", lambda: "")
    with pytest.raises(
        MissingExtraError, match=r"'triton', which is not installed: run pip install 'enginewright\[triton"
    ):
        compiler.compile(KERNEL, 90)
