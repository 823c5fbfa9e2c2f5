"""A finished plan waits for a store that is down, and for nothing that does not come back by itself."""

from pathlib import Path
from typing import Any

import pytest

from enginewright_builder import delivery
from enginewright_runtime.errors import StorageDeniedError, StorageError


class Store:
    """A store that fails as often as the test says."""

    def __init__(self, *failures: Exception) -> None:
        self.failures, self.stored = list(failures), 0

    def upload(self, path: Path, uri: str, *, overwrite: bool) -> bool:
        if self.failures:
            raise self.failures.pop(0)
        self.stored += 1
        return True


class Delivered:
    """What came of delivering a plan to a store."""

    def __init__(self, store: Store, monkeypatch: pytest.MonkeyPatch, destination: str = "s3://b/engine.plan") -> None:
        self.told: list[str] = []
        self.waited: list[float] = []
        monkeypatch.setattr(delivery.stores, "open_store", lambda *_: store)
        request: Any = type("Request", (), {"destination": destination, "storage": None})
        found = delivery.deliver(
            Path("engine.plan"), request, Path(), overwrite=False, step=self.told.append, wait=self.waited.append
        )
        assert found is None


def test_a_plan_is_stored_when_the_store_is_back(monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(StorageError("It is down."), StorageError("It is down."))
    delivered = Delivered(store, monkeypatch)
    assert store.stored == 1
    assert delivered.waited == [2.0, 4.0]
    assert delivered.told == ["It is down. The next try is in 2 s.", "It is down. The next try is in 4 s."]


def test_no_store_is_waited_for_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(*[StorageError("It is down.")] * 100)
    with pytest.raises(StorageError, match="down"):
        Delivered(store, monkeypatch)
    assert 80 < len(store.failures) < 100


@pytest.mark.parametrize(
    ("error", "destination"),
    [
        (StorageDeniedError("refused"), "s3://b/engine.plan"),
        (StorageError("the disk is full"), "file:///plans/engine.plan"),
    ],
)
def test_what_does_not_come_back_by_itself_is_said_at_once(
    monkeypatch: pytest.MonkeyPatch, error: Exception, destination: str
) -> None:
    store = Store(error)
    with pytest.raises(type(error)):
        Delivered(store, monkeypatch, destination)
    assert store.stored == 0
