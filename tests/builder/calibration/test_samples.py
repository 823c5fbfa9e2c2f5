"""Reading samples: what fits is read, what does not is refused by name, and nothing hostile is believed."""

import io
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest

from enginewright_builder.calibration import samples
from enginewright_runtime.errors import InputError
from enginewright_runtime.plan.manifest import Binding

IMAGE = Binding(name="image", dtype="float32", shape=(2, 3))
WHAT = "The calibration file c.npz"


def written(tmp_path: Path, **arrays: object) -> Path:
    path = tmp_path / "c.npz"
    np.savez(path, **arrays)  # type: ignore[arg-type]
    return path


def read(path: Path, *bindings: Binding) -> samples.Samples:
    return samples.read(path, bindings or (IMAGE,), what=WHAT)


def test_samples_and_labels_are_read(tmp_path: Path) -> None:
    found = read(written(tmp_path, image=np.ones((5, 3), np.float32), labels=np.arange(5)))
    assert found.count == 5
    assert found.labels is not None
    assert found.batch(4, [IMAGE])["image"].shape == (2, 3)


def test_no_more_samples_are_taken_than_were_asked_for(tmp_path: Path) -> None:
    path = written(tmp_path, image=np.ones((5, 3), np.float32), labels=np.arange(5))
    found = samples.read(path, (IMAGE,), what=WHAT, limit=2)
    assert (found.count, len(found.labels if found.labels is not None else ())) == (2, 2)


@pytest.mark.parametrize(
    ("arrays", "sentence"),
    [
        ({"photo": np.ones((5, 3), np.float32)}, "'photo', which is no input: .*'image'"),
        ({"labels": np.arange(3)}, "no array for input 'image': got none"),
        ({"image": np.ones((5, 3))}, "has float64 for input 'image': wanted float32"),
        ({"image": np.ones((5, 4), np.float32)}, r"the shape \[5, 4\] for input 'image': wanted \['samples', 3\]"),
        ({"image": np.ones((5, 3, 1), np.float32)}, r"the shape \[5, 3, 1\]"),
        ({"image": np.ones((0, 3), np.float32)}, "same number of samples, one at least.*image 0"),
        ({"image": np.ones((5, 3), np.float32), "labels": np.arange(4)}, "image 5, labels 4"),
        ({"image": np.ones((5, 3), np.float32), "labels": np.ones(5)}, "labels not integers in one row"),
    ],
)
def test_arrays_that_do_not_fit_are_refused_by_name(arrays: dict[str, object], sentence: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=sentence):
        read(written(tmp_path, **arrays))


@pytest.mark.parametrize("data", [b"", b"PK\x03\x04", b"no archive at all" * 100])
def test_a_file_that_is_no_archive_is_refused(data: bytes, tmp_path: Path) -> None:
    path = tmp_path / "c.npz"
    path.write_bytes(data)
    with pytest.raises(InputError, match=r"cannot be read as \.npz.*numpy\.savez"):
        read(path)


def test_a_truncated_archive_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path, image=np.ones((50, 3), np.float32))
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(InputError, match="cannot be read"):
        read(path)


def test_a_pickle_is_never_loaded(tmp_path: Path) -> None:
    path = tmp_path / "c.npz"
    np.savez(path, image=np.array([{"evil": pickle.dumps(1)}], dtype=object), allow_pickle=True)
    with pytest.raises(InputError, match="Python objects, which are never loaded"):
        read(path)


def _member(header: str, data: bytes = b"") -> bytes:
    text = header.encode().ljust(118) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + data


def _archive(path: Path, content: bytes) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("image.npy", content)
    return path


def test_a_header_that_claims_more_than_there_is_allocates_nothing(tmp_path: Path) -> None:
    claimed = "{'descr': '<f4', 'fortran_order': False, 'shape': (99999999999, 3)}"
    with pytest.raises(InputError, match="claims an array of 1199999999988 bytes and has 0"):
        read(_archive(tmp_path / "c.npz", _member(claimed)))


def test_a_member_that_claims_more_than_can_be_compressed_is_refused(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("image.npy", _member("{'descr': '<f4', 'fortran_order': False, 'shape': (1, 3)}", bytes(12)))
    data = bytearray(buffer.getvalue())
    at = data.index(b"PK\x01\x02")
    data[at + 24 : at + 28] = (3 << 30).to_bytes(4, "little")  # the central directory's uncompressed size
    path = tmp_path / "c.npz"
    path.write_bytes(bytes(data))
    with pytest.raises(InputError, match="claims 3221225472 bytes"):
        read(path)


def test_an_archive_beyond_the_limit_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(samples, "LIMIT", 10)
    with pytest.raises(InputError, match="GiB of arrays"):
        read(written(tmp_path, image=np.ones((5, 3), np.float32)))
