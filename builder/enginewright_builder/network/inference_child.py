"""The child process: infers the types and shapes of each model that it is sent, within bounds of memory and time.

    python -m enginewright_builder.network.inference_child FILE_DESCRIPTOR

A request is one byte (whether elements of vectors are followed) and a serialized model; the answer is the model with
what was found and little else (its layers are empty but for bodies), or nothing where inference refuses. It ends when
nobody asks any more, and where a model takes more than it may: what C++ leaves behind then is no ground to go on from.
"""

import resource
import signal
import sys
from multiprocessing.connection import Connection
from pathlib import Path

import onnx
import onnx.shape_inference

MEMORY = 256 << 20  # bytes, and more for what a large model takes:
MEMORY_EACH = 64  # for each byte of the model
SECONDS = 20.0  # of its processor, and more
SECONDS_EACH = 10e-6
_DATA = 5  # the field of /proc/self/statm that RLIMIT_DATA counts, in pages


def serve(connection: Connection) -> None:
    """Answer until nobody asks any more."""
    while True:
        try:
            elements, model = connection.recv_bytes(1) == b"\1", connection.recv_bytes()
        except EOFError:
            return
        _limit(len(model))
        connection.send_bytes(_inferred(model, elements))


def _inferred(model: bytes, elements: bool) -> bytes:
    try:
        found = onnx.shape_inference.infer_shapes(model, strict_mode=False, data_prop=elements)
        _strip(found)
        return bytes(found.SerializeToString())
    except (onnx.shape_inference.InferenceError, ValueError, RuntimeError):
        return b""


def _strip(model: onnx.ModelProto) -> None:
    """Leave what was found: who asked has the rest."""
    model.ClearField("functions")
    model.graph.ClearField("initializer")
    model.graph.ClearField("input")
    for node in model.graph.node:
        if not any(attribute.HasField("g") for attribute in node.attribute):
            node.Clear()


def _limit(size: int) -> None:
    """Beyond what is held now. Linux keeps both; a system that does not know the first has no such file either."""
    signal.setitimer(signal.ITIMER_PROF, SECONDS + SECONDS_EACH * size)
    pages = Path("/proc/self/statm")
    if pages.exists():
        held = int(pages.read_text(encoding="ascii").split()[_DATA]) * resource.getpagesize()
        _, hard = resource.getrlimit(resource.RLIMIT_DATA)
        most = held + MEMORY + MEMORY_EACH * size
        resource.setrlimit(resource.RLIMIT_DATA, (most if hard == resource.RLIM_INFINITY else min(most, hard), hard))


if __name__ == "__main__":
    with Connection(int(sys.argv[1])) as line:
        serve(line)
