"""Lets tests import the example's scripts, which are no package: a person runs them from their folder."""

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

DIGITS = Path(__file__).parents[2] / "examples" / "digits"
SCRIPTS = ("layers", "network", "export", "train")


@pytest.fixture(scope="session")
def digits() -> Iterator[SimpleNamespace]:
    """The modules layers, network, export and train; their folder leaves sys.path, and they sys.modules, afterwards."""
    pytest.importorskip("sklearn", reason="training the example needs scikit-learn")
    sys.path.insert(0, str(DIGITS))
    try:
        yield SimpleNamespace(**{name: importlib.import_module(name) for name in SCRIPTS})
    finally:
        sys.path.remove(str(DIGITS))
        for name in SCRIPTS:
            sys.modules.pop(name, None)
