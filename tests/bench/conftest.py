"""Lets tests import the benchmarks' parts, which are no package: a person runs the scripts from bench/."""

import sys
from pathlib import Path

TESTS = Path(__file__).resolve().parent
sys.path[:0] = [str(TESTS), str(TESTS.parents[1] / "bench")]
