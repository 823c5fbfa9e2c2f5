"""The shared timing cache: on moto's S3 over HTTP, with builders at once, down, damaged and hostile."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import boto3
import pytest
from stores import moto_s3

from enginewright_builder.tuning import caching, sharing, timings
from enginewright_builder.tuning.caching import Address
from enginewright_builder.tuning.sharing import Shared
from enginewright_builder.tuning.timings import Entry, Timed
from enginewright_runtime.plan import records
from enginewright_runtime.plan.recipe import Recipe
from enginewright_runtime.plan.request import BuildRequest, StoreOptions
from enginewright_runtime.plan.target import TargetKind, TargetRequirement
from enginewright_runtime.storage.open import open_store

TARGET = ("a device", "its libraries")


def _entry(number: int) -> Entry:
    return Entry(timed=(Timed(tactic="test", name=f"candidate {number}", microseconds=float(number)),))


def _key(number: int) -> str:
    return timings.key("problem", number)


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    with moto_s3.served() as url:
        yield url


@pytest.fixture
def shared(tmp_path: Path) -> Address:
    """The address of an empty cache in a folder that stands for a bucket, where S3 itself does not matter."""
    return Address(folder=None, shared=(tmp_path / "shared").as_uri())


@pytest.fixture
def bucket(endpoint: str, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Address:
    """The address of an empty cache in a bucket, with no folder of this machine."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    name = sha256(request.node.name.encode()).hexdigest()[:20]
    client = boto3.client("s3", endpoint_url=endpoint, region_name="us-east-1")
    client.create_bucket(Bucket=name)
    client.close()
    storage = StoreOptions(endpoint=endpoint, region="us-east-1", path_style=True)
    return Address(folder=None, shared=f"s3://{name}/timings", storage=storage)


def _never(sentence: str) -> None:
    raise AssertionError(sentence)


def _built(where: Address, *numbers: int) -> None:
    with caching.opened(where, TARGET, _never) as cache:
        for number in numbers:
            cache.put(_key(number), _entry(number))


def _found(where: Address) -> dict[str, Entry]:
    said: list[str] = []
    prefix = f"{where.shared}/{timings.key(*TARGET)[:32]}/"
    return Shared(store=open_store(prefix, where.storage), prefix=prefix, say=said.append).fetch()


def _put(where: Address, name: str, content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "hostile"
    path.write_bytes(content)
    uri = f"{where.shared}/{timings.key(*TARGET)[:32]}/{name}"
    open_store(uri, where.storage).upload(path, uri, overwrite=True)


def _put_bundle(where: Address, content: bytes, tmp_path: Path) -> None:
    _put(where, f"{sha256(content).hexdigest()}.json", content, tmp_path)


def test_what_one_builder_measured_another_machine_finds(bucket: Address) -> None:
    _built(bucket, 1, 2)
    with caching.opened(bucket, TARGET, _never) as cache:
        assert [cache.get(_key(1)), cache.get(_key(2)), cache.get(_key(3))] == [_entry(1), _entry(2), None]
        assert cache.unproven(_key(1))


def test_another_target_finds_nothing(shared: Address) -> None:
    _built(shared, 1)
    with caching.opened(shared, ("another device",), _never) as cache:
        assert cache.get(_key(1)) is None


def test_a_build_that_measured_nothing_new_writes_nothing(shared: Address) -> None:
    _built(shared, 1)
    store = open_store(shared.shared, shared.storage)
    before = list(store.list(f"{shared.shared}/"))
    with caching.opened(shared, TARGET, _never) as cache:
        cache.get(_key(1))
    assert list(store.list(f"{shared.shared}/")) == before


def test_an_interrupted_build_leaves_what_it_measured(shared: Address) -> None:
    def interrupted() -> None:
        with caching.opened(shared, TARGET, _never) as cache:
            cache.put(_key(1), _entry(1))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert _found(shared) == {_key(1): _entry(1)}


_BUILDS = """
import sys
from enginewright_builder.tuning import timings
from enginewright_builder.tuning.sharing import Shared
from enginewright_builder.tuning.timings import Entry, Timed
from enginewright_runtime.plan.request import StoreOptions
from enginewright_runtime.storage.open import open_store

endpoint, prefix, first = sys.argv[1], sys.argv[2], int(sys.argv[3])
store = open_store(prefix, StoreOptions(endpoint=endpoint, region="us-east-1", path_style=True))
for number in range(first, first + 12):
    shared = Shared(store=store, prefix=prefix, say=sys.exit)
    shared.fetch()
    timed = Timed(tactic="test", name=f"candidate {number}", microseconds=float(number))
    shared.share({timings.key("problem", number): Entry(timed=(timed,))})
"""


def test_builders_at_once_lose_none_of_each_others_entries(bucket: Address) -> None:
    prefix = f"{bucket.shared}/{timings.key(*TARGET)[:32]}/"
    builders = [
        subprocess.Popen([sys.executable, "-c", _BUILDS, bucket.storage.endpoint, prefix, str(first)])
        for first in (0, 100)
    ]
    assert [each.wait(120) for each in builders] == [0, 0]
    wanted = {*range(12), *range(100, 112)}
    assert _found(bucket) == {_key(number): _entry(number) for number in wanted}


def test_many_bundles_become_one(shared: Address) -> None:
    for number in range(sharing.MERGE_FROM):
        _built(shared, number)
    assert len(list(open_store(shared.shared, shared.storage).list(f"{shared.shared}/"))) == 1
    assert len(_found(shared)) == sharing.MERGE_FROM


def test_builders_that_differ_on_a_key_agree_afterwards_whoever_came_first(shared: Address, tmp_path: Path) -> None:
    for entry in (_entry(1), _entry(2)):
        _put_bundle(shared, records.canonical(sharing.Bundle(entries={_key(0): entry})), tmp_path)
    assert _found(shared)[_key(0)] == min(_entry(1), _entry(2), key=records.digest)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[" * 5000,
        json.dumps({"entries": {"0" * 64: {"timed": [{"tactic": "a", "name": "b", "microseconds": -1}]}}}).encode(),
        json.dumps({"entries": {"../../etc": {"timed": []}}}).encode(),
        json.dumps({"entries": {"0" * 64: {"timed": [{"tactic": "a", "name": "\u001b[2J"}]}}}).encode(),
        json.dumps({"entries": {"0" * 64: {"timed": []}}, "format": 99}).encode(),
    ],
    ids=["empty", "cut", "deep", "negative", "a path for a key", "a terminal's orders", "a later format"],
)
def test_what_is_no_bundle_counts_as_none_and_the_others_stay(shared: Address, tmp_path: Path, content: bytes) -> None:
    _built(shared, 1)
    _put_bundle(shared, content, tmp_path)
    assert _found(shared) == {_key(1): _entry(1)}


def test_a_bundle_that_is_not_what_its_name_says_is_left_out(shared: Address, tmp_path: Path) -> None:
    _put(shared, f"{'0' * 64}.json", records.canonical(sharing.Bundle(entries={_key(1): _entry(1)})), tmp_path)
    assert _found(shared) == {}


def test_a_bundle_that_is_too_large_is_not_fetched(
    shared: Address, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _built(shared, 1)
    monkeypatch.setattr(sharing, "MOST_BYTES", 10)
    assert _found(shared) == {}


def test_where_not_all_fits_what_this_build_used_is_kept(shared: Address, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(sharing.MERGE_FROM - 1):
        _built(shared, number)
    monkeypatch.setattr(sharing, "MOST_BYTES", 800)
    _built(shared, 50)
    kept = _found(shared)
    assert kept[_key(50)] == _entry(50)
    assert len(kept) < sharing.MERGE_FROM


def test_a_cache_that_is_down_costs_a_sentence_and_no_build(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("")
    said: list[str] = []
    where = Address(folder=tmp_path / "here", shared=f"{file.as_uri()}/cache")
    with caching.opened(where, TARGET, said.append) as cache:
        cache.put(_key(1), _entry(1))
    assert len(said) >= 1
    assert "shared at file:///" in said[-1]
    with caching.opened(Address(folder=tmp_path / "here"), TARGET, _never) as cache:
        assert cache.get(_key(1)) == _entry(1)


def test_a_scheme_without_a_store_costs_a_sentence_and_no_build() -> None:
    said: list[str] = []
    with caching.opened(Address(folder=None, shared="gs://bucket/cache"), TARGET, said.append) as cache:
        cache.put(_key(1), _entry(1))
    assert said[0].startswith("The timing cache gs://bucket/cache cannot be used")


def test_an_entry_is_kept_on_this_machine_once_its_choice_was_checked(shared: Address, tmp_path: Path) -> None:
    _built(shared, 1, 2)
    here = Address(folder=tmp_path, shared=shared.shared, storage=shared.storage)
    with caching.opened(here, TARGET, _never) as cache:
        cache.get(_key(1))
        cache.prove(_key(1))
        cache.get(_key(2))
    with caching.opened(Address(folder=tmp_path), TARGET, _never) as cache:
        assert [cache.get(_key(1)), cache.get(_key(2))] == [_entry(1), None]


@pytest.mark.parametrize(
    ("word", "folder", "shared"),
    [
        (None, Path(caching.HERE).expanduser(), "s3://asked/for"),
        ("", None, "s3://asked/for"),
        ("/some/folder", Path("/some/folder"), "s3://asked/for"),
        ("s3://mine/cache", Path(caching.HERE).expanduser(), "s3://mine/cache"),
    ],
)
def test_the_address_is_the_requests_unless_the_environment_names_one(
    word: str | None, folder: Path | None, shared: str
) -> None:
    recipe = Recipe(model="m", target=TargetRequirement(kind=TargetKind.CUDA), builder="0")
    request = BuildRequest(recipe=recipe, model="m", destination="d", timing_cache="s3://asked/for")
    where = caching.address(request, {} if word is None else {caching.VARIABLE: word})
    assert (where.folder, where.shared) == (folder, shared)
