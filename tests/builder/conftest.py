"""Neither tests/ nor examples/ is a package, on purpose: this makes cuda_on_host, layouts and networks importable."""

import sys
from pathlib import Path

_ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(_ROOT / "examples"), str(_ROOT / "tests")]
