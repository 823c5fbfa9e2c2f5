"""What a measured table of docs/ is made of: a line that says on what it was measured, and its place in the page."""

import os
import platform
import tempfile
import time
from pathlib import Path

from enginewright_runtime.engine import available


def machine(*versions: str) -> str:
    """The processor, the system, `versions` of what was measured, the day, and how busy the machine was."""
    here = available.describe_host()
    told = ", ".join([f"Python {platform.python_version()}", *versions, time.strftime("%Y-%m-%d", time.gmtime())])
    load = f"{os.getloadavg()[0]:.1f}"
    return (
        f"{here.product}, {here.processors} CPUs, {here.memory / (1 << 30):.0f} GiB; Linux {platform.release()}, "
        f"{told}. Load average at the end: {load} (beyond the number of CPUs, other work slowed both)."
    )


def replace_after(marker: str, page: Path, table: str) -> None:
    """Put `table` in the place of what follows `marker`; whoever is killed meanwhile leaves the old page."""
    kept, _, _ = page.read_text(encoding="utf-8").partition(marker)
    with tempfile.NamedTemporaryFile("w", dir=page.parent, delete=False, encoding="utf-8") as file:
        file.write(f"{kept}{marker}\n\n{table}")
    os.chmod(file.name, page.stat().st_mode)
    os.replace(file.name, page)
