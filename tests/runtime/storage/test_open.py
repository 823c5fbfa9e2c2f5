"""The table of stores: which scheme opens which, and what is said of the others."""

import subprocess
import sys

import pytest

from enginewright_runtime.errors import MissingExtraError, UsageError
from enginewright_runtime.plan.request import StoreOptions
from enginewright_runtime.storage import folder, s3
from enginewright_runtime.storage.open import open_store


def test_each_scheme_opens_its_store() -> None:
    assert isinstance(open_store("file:///tmp/x", StoreOptions()), folder.FolderStore)
    assert isinstance(open_store("S3://bucket/key", StoreOptions()), s3.S3Store)


@pytest.mark.parametrize("uri", ["gs://bucket/key", "/a/path", "", "https://host/key", "s3:/bucket"])
def test_another_scheme_is_refused_with_those_that_are_supported(uri: str) -> None:
    with pytest.raises(UsageError, match=r"one of s3://, file://") as caught:
        open_store(uri, StoreOptions())
    assert repr(uri) in str(caught.value)


def test_a_folder_is_opened_without_boto3() -> None:
    program = (
        "import sys\n"
        "from enginewright_runtime.storage.open import open_store\n"
        "from enginewright_runtime.plan.request import StoreOptions\n"
        "open_store('file:///tmp/x', StoreOptions())\n"
        "sys.exit('boto3' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def test_without_boto3_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("boto3", "enginewright_runtime.storage.s3"):
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.delitem(sys.modules, "enginewright_runtime.storage.s3")
    monkeypatch.delattr("enginewright_runtime.storage.s3")
    with pytest.raises(MissingExtraError, match=r"pip install 'enginewright\[storage\]'"):
        open_store("s3://bucket/key", StoreOptions())
