"""What a committed file may hold, and how long it may be."""

import ast
import re
import stat
import warnings
from collections.abc import Iterator
from pathlib import Path

WARN_FILE, MOST_FILE = 300, 500
WARN_FUNCTION, MOST_FUNCTION = 60, 100

# Written in pieces, so that this file does not find itself.
REGISTRIES = ("pypi" + ".org", "pythonhosted" + ".org", "npmjs" + ".org", "proxy.golang" + ".org")
HOMES = re.compile(rb"/(?:ho" rb"me|Us" rb"ers)/[a-z]|/ro" rb"ot/|/wo" rb"rk/")
# Files in which such a path means a place inside an image, not on somebody's machine.
IMAGES = ("Dockerfile", "images/")
# Checksums of Go modules, which name no host of ours.
GENERATED = ("go.sum",)


def functions(path: Path) -> Iterator[tuple[str, int]]:
    """Name and length, in lines, of every function."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.end_lineno is not None:
            yield node.name, node.end_lineno - node.lineno + 1


def lines_of(path: Path) -> int:
    return len(path.read_text().splitlines())


def test_files_are_short_enough_to_be_read(python_files: list[Path], root: Path) -> None:
    long = {str(path.relative_to(root)): lines_of(path) for path in python_files if lines_of(path) > WARN_FILE}
    for name, lines in sorted(long.items()):
        say(f"{name} has {lines} lines, more than {WARN_FILE}")
    assert {name: lines for name, lines in long.items() if lines > MOST_FILE} == {}


def test_functions_are_short_enough_to_be_read(python_files: list[Path], root: Path) -> None:
    long = {
        f"{path.relative_to(root)}:{name}": lines
        for path in python_files
        for name, lines in functions(path)
        if lines > WARN_FUNCTION
    }
    for name, lines in sorted(long.items()):
        say(f"{name} has {lines} lines, more than {WARN_FUNCTION}")
    assert {name: lines for name, lines in long.items() if lines > MOST_FUNCTION} == {}


def say(line: str) -> None:
    """A line among the warnings at the end of the run, that does not fail it."""
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.warn(line, stacklevel=2)


def test_no_package_registry_is_named(files: list[Path], root: Path) -> None:
    found = [
        f"{path.relative_to(root)}: {name}"
        for path in files
        if path.name not in GENERATED
        for name in REGISTRIES
        if name.encode() in path.read_bytes().lower()
    ]
    assert found == []


def test_no_path_of_somebodys_machine_is_named(files: list[Path], root: Path) -> None:
    found = [
        f"{path.relative_to(root)}: {match.group().decode()}"
        for path in files
        if not any(part in str(path.relative_to(root)) for part in IMAGES) and (content := path.read_bytes())
        for match in HOMES.finditer(content if b"\0" not in content else b"")
    ]
    assert found == []


def test_what_has_a_shebang_and_only_that_is_executable(files: list[Path], root: Path) -> None:
    for path in files:
        executable = bool(path.stat().st_mode & stat.S_IXUSR)
        assert executable == (path.read_bytes()[:2] == b"#!"), path.relative_to(root)


def test_every_module_says_why_it_exists(python_files: list[Path], root: Path) -> None:
    without = [
        str(path.relative_to(root)) for path in python_files if ast.get_docstring(ast.parse(path.read_text())) is None
    ]
    assert without == []
