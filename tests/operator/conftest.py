"""Makes `operator_objects` importable: tests/ has no packages on purpose."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
