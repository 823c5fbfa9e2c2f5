"""The vendors' libraries at run time, as far as no device is needed: what is said when one is missing or refuses."""

import sys
from types import SimpleNamespace

import pytest

from enginewright_runtime.engine.cuda import cublaslt, cudnn
from enginewright_runtime.engine.cuda.program import CudnnGraph, Pointer, Space
from enginewright_runtime.errors import PlanError

RECORD = CudnnGraph(
    graph="graphs/conv",
    tensors={"1": Pointer(space=Space.ARENA, offset=256), "5": Pointer(space=Space.OUTPUT, name="y")},
    workspace=Pointer(space=Space.ARENA, offset=4096),
    workspace_bytes=64,
)


class Frontend:
    """A stand-in for NVIDIA's module that writes down what is asked of it."""

    def __init__(self, refuses: str = "") -> None:
        self.refuses, self.asked = refuses, []  # type: tuple[str, list[Any]]

    def backend_version(self) -> int:
        return 91302

    def create_handle(self) -> SimpleNamespace:
        return SimpleNamespace(stream=0)

    def set_stream(self, *, handle: SimpleNamespace, stream: int) -> None:
        handle.stream = stream

    def destroy_handle(self, handle: SimpleNamespace) -> None:
        self.asked.append(("destroy", handle.stream))

    def pygraph(self, **_: object) -> SimpleNamespace:
        def deserialize(data: object) -> None:
            if self.refuses:
                raise RuntimeError(self.refuses)
            self.asked.append(("deserialize", data))

        def execute(pointers: object, workspace: int, *, handle: SimpleNamespace) -> None:
            self.asked.append(("execute", pointers, workspace, handle.stream))

        return SimpleNamespace(deserialize=deserialize, execute=execute)


def test_without_nvidias_package_the_sentence_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cudnn", None)
    with pytest.raises(
        PlanError, match=r"nvidia-cudnn-frontend is not installed: run pip install 'enginewright\[cuda13\]'"
    ):
        cudnn.CudnnLibrary()


def test_without_cudnn_itself_the_sentence_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing() -> int:
        raise RuntimeError("no libcudnn.so.9")

    monkeypatch.setitem(sys.modules, "cudnn", SimpleNamespace(backend_version=missing))
    with pytest.raises(PlanError, match=r"cuDNN does not load \(no libcudnn.so.9\): run pip install"):
        cudnn.CudnnLibrary()


def test_without_cublas_the_sentence_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cuda.pathfinder", None)
    with pytest.raises(PlanError, match=r"nvidia-cublas\) is not installed: run pip install 'enginewright\[cuda13\]'"):
        cublaslt.CublasLtLibrary()


def test_a_graph_is_launched_on_its_stream_with_the_addresses_of_the_program(monkeypatch: pytest.MonkeyPatch) -> None:
    vendor = Frontend()
    monkeypatch.setitem(sys.modules, "cudnn", vendor)
    prepared = cudnn.CudnnLibrary().prepare(RECORD, {"graphs/conv": b"\1\2"}.__getitem__)
    prepared.launch(77, lambda pointer: 1 << 20 | pointer.offset)
    assert vendor.asked == [
        ("deserialize", [1, 2]),
        ("execute", {1: 1 << 20 | 256, 5: 1 << 20}, 1 << 20 | 4096, 77),
    ]


def test_a_handle_is_made_once_a_stream_and_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    vendor = Frontend()
    monkeypatch.setitem(sys.modules, "cudnn", vendor)
    library = cudnn.CudnnLibrary()
    assert library.handle(3) is library.handle(3)
    assert library.handle(3) is not library.handle(4)
    library.close()
    assert vendor.asked == [("destroy", 3), ("destroy", 4)]


def test_a_graph_that_this_cudnn_does_not_load_is_a_sentence_with_both(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cudnn", Frontend(refuses="version mismatch"))
    with pytest.raises(PlanError, match=r"cuDNN 9\.13\.2 does not load the graph 'graphs/conv' \(version mismatch\)"):
        cudnn.CudnnLibrary().prepare(RECORD, lambda _: b"")


@pytest.mark.parametrize(
    ("text", "said"), [("zz", "is not hexadecimal"), ("00" * 8, "has 8 bytes where cuBLASLt's have 64")]
)
def test_an_algorithm_that_is_none_is_refused_with_a_sentence(text: str, said: str) -> None:
    with pytest.raises(PlanError, match=said):
        cublaslt._algorithm(text)


def test_a_name_that_this_runtime_does_not_know_is_a_sentence_with_those_it_knows() -> None:
    with pytest.raises(PlanError, match="says 'SWISH' where this runtime knows DEFAULT, RELU"):
        cublaslt._known(cublaslt.EPILOGUES, "SWISH")
