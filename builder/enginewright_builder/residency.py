"""A process of its own that loads a plan and prints what that added to its resident memory, as JSON."""

import json
import sys
from pathlib import Path

from enginewright_runtime.engine.engine import Engine

_STATUS = Path("/proc/self/status")


def resident() -> int:
    """Bytes of this process in memory (Linux, proc_pid_status(5), VmRSS)."""
    line = next(line for line in _STATUS.read_text(encoding="ascii").splitlines() if line.startswith("VmRSS:"))
    return int(line.split()[1]) * 1024


def main(plan: str) -> None:
    """Load, replay, and tell."""
    before = resident()
    with Engine(plan, allow_plugins=True) as engine:
        engine.replay_goldens()
        sys.stdout.write(json.dumps({"bytes": max(0, resident() - before)}))


if __name__ == "__main__":
    main(sys.argv[1])
