"""Starts processes that die with the one that started them, even when that one is killed with SIGKILL.

Linux sends a chosen signal to a child when the thread that forked it ends (prctl PR_SET_PDEATHSIG), and the setting
outlives execve. A tiny Python process sets it and becomes the program: a `preexec_fn` would fork a threaded process,
which Python 3.12 and later warn about. So start tethered processes only from a thread that lives as long as they may.
"""

import os
import signal
import sys

TETHER = """
import ctypes, os, sys
ctypes.CDLL(None).prctl(1, int(sys.argv[1]))
if os.getppid() == int(sys.argv[2]):
    os.execvp(sys.argv[3], sys.argv[3:])
"""


def tethered(command: list[str], on_parent_death: signal.Signals = signal.SIGKILL) -> list[str]:
    """The same command, tied to this process. Its pid is the one that Popen reports: the tether execs it."""
    return [sys.executable, "-I", "-S", "-c", TETHER, str(int(on_parent_death)), str(os.getpid()), *command]
