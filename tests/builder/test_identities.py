"""A file's identity is its content's, whether it was hashed ahead or not."""

import os
import subprocess
import sys
from hashlib import sha256
from pathlib import Path

import pytest

from enginewright_builder import identities


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / "model.onnx").write_bytes(b"layers")
    return tmp_path / "model.onnx"


def test_it_is_the_sha256_of_the_content(path: Path) -> None:
    assert identities.of(path) == f"sha256:{sha256(b'layers').hexdigest()}"


def test_what_was_hashed_ahead_answers_once(path: Path) -> None:
    identities.begin(path)
    assert identities.of(path) == f"sha256:{sha256(b'layers').hexdigest()}"
    path.write_bytes(b"other layers")
    assert identities.of(path) == f"sha256:{sha256(b'other layers').hexdigest()}"


def test_a_file_that_is_not_there_is_told_where_it_is_asked_for(tmp_path: Path) -> None:
    identities.begin(tmp_path / "no.onnx")
    with pytest.raises(FileNotFoundError):
        identities.of(tmp_path / "no.onnx")


def test_a_process_that_ends_waits_for_no_file(tmp_path: Path) -> None:
    """One that nobody writes into, or a large one: an option that is wrong is told at once."""
    os.mkfifo(tmp_path / "model.onnx")
    program = (
        "import pathlib, sys; from enginewright_builder import identities; identities.begin(pathlib.Path(sys.argv[1]))"
    )
    subprocess.run([sys.executable, "-c", program, str(tmp_path / "model.onnx")], check=True, timeout=60)
