"""The commands that the README promises exist, and the package can be built."""

import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest


def targets(root: Path) -> set[str]:
    """The Makefile's targets."""
    return set(re.findall(r"^([a-z-]+):", (root / "Makefile").read_text(), flags=re.MULTILINE))


def test_every_make_command_in_the_documents_exists(root: Path, files: list[Path]) -> None:
    documents = [path for path in files if path.suffix == ".md"]
    named = {
        (str(path.relative_to(root)), name)
        for path in documents
        for name in re.findall(r"(?:`|^ *|\$ )make ([a-z][a-z-]*)", path.read_text(), flags=re.MULTILINE)
    }
    assert {(path, name) for path, name in named if name not in targets(root)} == set()


@pytest.mark.parametrize(
    "name", ["demo", "test", "test-full", "test-models", "test-gpu", "demo-cluster", "crds", "lint", "format"]
)
def test_the_makefile_explains_each_target(root: Path, name: str) -> None:
    said = subprocess.run(["make", "-C", str(root)], capture_output=True, text=True, check=True).stdout
    assert re.search(rf"make {name} +\S", said)


def test_continuous_integration_runs_make_test_and_nothing_else(root: Path) -> None:
    script = (root / ".ci" / "run").read_text().splitlines()
    assert script[0] == "#!/usr/bin/env bash"
    assert [line for line in script[1:] if not line.startswith(("#", "set ", "cd "))] == ["exec make test"]


def test_import_contracts_are_checked_by_make_test(root: Path) -> None:
    said = subprocess.run(["make", "-n", "-C", str(root), "test"], capture_output=True, text=True, check=True).stdout
    for tool in ("ruff format --check", "ruff check", "mypy", "lint-imports", "pytest"):
        assert tool in said


def test_the_wheel_holds_the_three_packages(root: Path, tmp_path: Path) -> None:
    pytest.importorskip("hatchling", reason="building the wheel needs hatchling")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)],
        cwd=root,
        check=True,
        capture_output=True,
    )
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    for package in ("enginewright_runtime", "enginewright_builder", "enginewright_operator"):
        assert {f"{package}/__init__.py", f"{package}/py.typed"} <= names
    assert not any(name.startswith(("tests/", "operator/", "examples/")) for name in names)
