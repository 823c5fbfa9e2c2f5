"""The port that a server of this machine is to listen on. Another process may take it until the server does."""

import socket

from enginewright_operator.local.containers import LOOPBACK
from enginewright_runtime.errors import UsageError


def free_port(wanted: int | None, *, usual: int) -> int:
    """`wanted` itself, or, where any will do, the usual one or else a free one. Raises UsageError if it is taken."""
    for port in (usual, 0) if wanted is None else (wanted,):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((LOOPBACK, port))
            except OSError as error:
                if wanted is not None:
                    raise refusal(wanted, error.strerror) from error
                continue
            return int(probe.getsockname()[1])
    raise UsageError("This machine has no free port: end a process that listens.")


def refusal(wanted: int, why: str | None) -> UsageError:
    """That the port which was asked for cannot be had."""
    return UsageError(
        f"The port {wanted} of this machine cannot be had ({why}): give another with --port, or none, and a free one "
        "is taken."
    )
