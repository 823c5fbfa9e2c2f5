"""Where modules may lie, and what they may be called: operator/ shares its name with a module of Python's own."""

import subprocess
import sys
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest

PACKAGE_ROOTS = ("operator", "builder", "runtime")
PACKAGES = ("enginewright_runtime", "enginewright_builder", "enginewright_operator")


@pytest.mark.parametrize("folder", PACKAGE_ROOTS)
def test_no_module_lies_directly_in_a_package_root(root: Path, folder: str) -> None:
    assert list((root / folder).glob("*.py")) == []


def test_the_tests_are_no_packages(python_files: list[Path], root: Path) -> None:
    tests = [path.relative_to(root) for path in python_files if path.is_relative_to(root / "tests")]
    assert [str(path) for path in tests if path.name == "__init__.py"] == []


def test_pythons_own_operator_module_is_not_hidden(root: Path) -> None:
    program = "import collections, operator; assert 'site-packages' not in operator.__file__; print(operator.__file__)"
    ran = subprocess.run(
        [sys.executable, "-c", program], env={"PYTHONPATH": str(root)}, capture_output=True, text=True, check=True
    )
    assert not ran.stdout.startswith(str(root / "operator"))


def test_no_top_level_package_is_named_like_one_of_pythons_own(python_files: list[Path], root: Path) -> None:
    """Modules inside a package cannot hide Python's; those that a person runs as scripts, and test helpers, can."""
    loose = [path for path in python_files if not any(name in path.parts for name in PACKAGES)]
    clashing = [str(path.relative_to(root)) for path in loose if path.stem in sys.stdlib_module_names]
    assert clashing == []
    assert not set(PACKAGES) & sys.stdlib_module_names


def test_every_command_can_be_loaded(project: dict[str, Any]) -> None:
    commands = project["project"]["entry-points"]["enginewright.commands"]
    broken = {}
    for name, value in commands.items():
        try:
            loaded = EntryPoint(name=name, value=value, group="enginewright.commands").load()
        except (ImportError, AttributeError) as error:
            broken[name] = str(error)
        else:
            assert callable(loaded), name
    assert broken == {}


def test_every_script_can_be_loaded(project: dict[str, Any]) -> None:
    for name, value in project["project"]["scripts"].items():
        assert callable(EntryPoint(name=name, value=value, group="console_scripts").load()), name


@pytest.mark.parametrize("package", PACKAGES)
def test_importing_a_package_loads_nothing_heavy(package: str) -> None:
    program = (
        f"import {package}, sys; print([n for n in ('onnx', 'cupy', 'kopf', 'boto3', 'numpy') if n in sys.modules])"
    )
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"
