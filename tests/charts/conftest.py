"""Makes the folder tests/ importable, as the cluster tests do: the tests here share charts/chart.py."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
