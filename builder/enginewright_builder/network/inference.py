"""ONNX's own inference, in a process of its own that may end without this one.

It is written in C++, and a few bytes of a model make it take all memory: it holds a dimension for each element of a
vector, and a vector may have billions. So a child runs it under limits. One serves as long as this process lives; one
that died is replaced when it is asked for again.
"""

import atexit
import os
import socket
import subprocess
import sys
import threading
from dataclasses import dataclass
from multiprocessing.connection import Connection

COMMAND = (sys.executable, "-P", "-m", "enginewright_builder.network.inference_child")
_LARGE = 4 << 20  # bytes of a model
_GRACE = 5.0  # seconds for the child to end by itself


@dataclass(frozen=True, slots=True)
class _Child:
    process: subprocess.Popen[bytes]
    connection: Connection

    def ask(self, light: bytes, *, elements: bool) -> bytes:
        self.connection.send_bytes(bytes([elements]))
        self.connection.send_bytes(light)
        return self.connection.recv_bytes()

    def end(self) -> None:
        self.connection.close()
        try:
            self.process.wait(_GRACE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


_lock = threading.Lock()
_children: dict[int, _Child] = {}  # by the process that started it: one that was forked has none yet


def begin() -> None:
    """Start the child ahead of the first question: it imports while a build does, and reads its model."""
    with _lock:
        _ready()


def infer(light: bytes, *, elements: bool) -> bytes | None:
    """A serialized model without its weights, with what inference finds; with `elements` it follows those of vectors.

    None where it cannot: what it takes is bounded, and so is the time.
    """
    with _lock:
        child = _ready()
        try:
            found = child.ask(light, elements=elements)
        except (EOFError, OSError):
            end()
            return None
        if len(light) > _LARGE:
            end()  # what a large model took goes back at once
        return found or None


def end() -> None:
    """The child, if there is one."""
    child = _children.pop(os.getpid(), None)
    if child is not None:
        child.end()


def _ready() -> _Child:
    """This process's child."""
    if os.getpid() not in _children:
        _children[os.getpid()] = _started()
    return _children[os.getpid()]


def _started() -> _Child:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        process = subprocess.Popen(
            [*COMMAND, str(theirs.fileno())],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,  # what it says when it ends is said here
            pass_fds=[theirs.fileno()],
        )
        return _Child(process, Connection(os.dup(ours.fileno())))


atexit.register(end)
