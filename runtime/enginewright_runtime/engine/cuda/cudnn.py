"""cuDNN's graphs at run time: a serialized graph, its engine chosen and compiled, becomes something to launch.

The plan carries what the builder serialized, so nothing is searched for or compiled here. The vendor's Python package
is imported when the library is first asked for, and a plan without such steps never does. A launch only enqueues work
on its stream, so it may stand inside a stream capture; preparing may not.
"""

import importlib
from collections.abc import Callable
from typing import Any

from enginewright_runtime.engine.cuda.program import CudnnGraph, Pointer
from enginewright_runtime.errors import PlanError

Address = Callable[[Pointer], int]


def frontend() -> Any:
    """NVIDIA's module `cudnn` (nvidia-cudnn-frontend). Raises PlanError with the command that installs it."""
    try:
        return importlib.import_module("cudnn")
    except ImportError as error:
        raise PlanError(
            "The plan has cuDNN graphs, and the package nvidia-cudnn-frontend is not installed: run "
            "pip install 'enginewright[cuda13]' and try again."
        ) from error


class PreparedCudnnGraph:
    """One graph, loaded. Its launches must not overlap in time on the host: the frontend reuses its argument list."""

    def __init__(self, record: CudnnGraph, graph: Any, library: "CudnnLibrary") -> None:
        self._record, self._graph, self._library = record, graph, library
        self._tensors = {int(uid): pointer for uid, pointer in record.tensors.items()}

    def launch(self, stream: int, address: Address) -> None:
        """Enqueue the graph on `stream` (a cudaStream_t); `address` says where each of its tensors lies."""
        pointers = {uid: address(pointer) for uid, pointer in self._tensors.items()}
        workspace = 0 if self._record.workspace is None else address(self._record.workspace)
        try:
            self._graph.execute(pointers, workspace, handle=self._library.handle(stream))
        except RuntimeError as error:
            raise PlanError(
                f"cuDNN did not run the graph {self._record.graph!r} ({error}): build the plan again with this version "
                "of cuDNN."
            ) from error


class CudnnLibrary:
    """cuDNN on the current device: a handle a stream, made when it is first needed and kept."""

    def __init__(self) -> None:
        self._cudnn = frontend()
        self._handles: dict[int, Any] = {}
        try:
            self._number = int(self._cudnn.backend_version())
        except RuntimeError as error:  # the frontend is there, and finds no libcudnn
            raise PlanError(
                f"cuDNN does not load ({error}): run pip install 'enginewright[cuda13]' and try again."
            ) from error

    @property
    def version(self) -> str:
        """Of the library itself, as in 9.13.0."""
        return f"{self._number // 10000}.{self._number // 100 % 100}.{self._number % 100}"

    def handle(self, stream: int) -> Any:
        """The handle that enqueues on `stream`."""
        if stream not in self._handles:
            made = self._cudnn.create_handle()
            self._cudnn.set_stream(handle=made, stream=stream)
            self._handles[stream] = made
        return self._handles[stream]

    def prepare(self, record: CudnnGraph, blob: Callable[[str], bytes]) -> PreparedCudnnGraph:
        """The graph of a step, ready to launch. Raises PlanError where this cuDNN does not take it."""
        graph = self._cudnn.pygraph(handle=self.handle(0))
        try:
            # A list of integers is what every version of the frontend takes; bytes came late.
            graph.deserialize(list(blob(record.graph)))
        except (RuntimeError, ValueError) as error:
            raise PlanError(
                f"cuDNN {self.version} does not load the graph {record.graph!r} ({error}): build the plan again with "
                "this version of cuDNN, or install the one that the plan names."
            ) from error
        return PreparedCudnnGraph(record, graph, self)

    def close(self) -> None:
        """Give the handles back; nothing that was prepared may be launched afterwards."""
        for handle in self._handles.values():
            self._cudnn.destroy_handle(handle)
        self._handles.clear()
