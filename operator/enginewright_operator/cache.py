"""What the watches told, so that a reconciliation asks the API server for nothing that it could know.

Objects are kept as JSON text without managedFields: a tenth of what they would take as Python's objects, and whoever
reads one gets a copy of its own. A cache may be behind, never wrong in order: an older version never replaces a newer
one, and every write is held to what it was decided on, so that a stale decision is refused by the API server.
"""

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

from pydantic_core import from_json, to_json  # half of json's time and less

Manifest = dict[str, Any]
Index = Callable[[Manifest], Iterable[str]]
Name = tuple[str, str]  # namespace and name


class Kind:
    """All objects of one kind, found by name or by an index."""

    def __init__(self, indexes: Mapping[str, Index]) -> None:
        self._indexes = indexes
        self._texts: dict[Name, bytes] = {}
        self._versions: dict[Name, int] = {}  # of those that are gone, too, until the next list
        self._listed = -1  # the version of the last list: what it lacked and is no newer is gone
        self._entries: dict[Name, tuple[tuple[str, str], ...]] = {}
        self._found: dict[tuple[str, str], set[Name]] = defaultdict(set)
        self.synced = False
        self.changes = 0  # objects that came, changed or went so far

    def put(self, manifest: Manifest) -> bool:
        """Take up an object as it is; False where this or a newer version of it is known."""
        name, version = name_of(manifest), version_of(manifest)
        if version <= self._versions.get(name, self._listed):
            return False
        metadata = {key: value for key, value in manifest["metadata"].items() if key != "managedFields"}
        self._unindex(name)
        self._texts[name] = to_json(manifest | {"metadata": metadata})
        self._versions[name] = version
        self._entries[name] = tuple(
            (index, key) for index, keys_of in self._indexes.items() for key in keys_of(manifest)
        )
        for index, key in self._entries[name]:
            self._found[index, key].add(name)
        self.changes += 1
        return True

    def drop(self, name: Name, version: int | None = None) -> bool:
        """An object is gone, as of a version (unknown: the one that is known); False where a newer one is known."""
        known = self._versions.get(name, self._listed)
        if version is not None and version < known:
            return False
        self._versions[name] = known if version is None else version
        self._unindex(name)
        there = self._texts.pop(name, None) is not None
        self.changes += there
        return there

    def settle(self, listed: Collection[Name], version: int) -> list[Manifest]:
        """These names were all that there was, as of a version; what is dropped for it is returned."""
        gone = [name for name in self._texts if name not in listed and self._versions[name] <= version]
        dropped = [self._read(name) for name in gone]
        for name in gone:
            self.drop(name, version)
        self._listed = max(self._listed, version)
        self._versions = {
            name: known for name, known in self._versions.items() if name in self._texts or known > version
        }
        self.synced = True
        return dropped

    def get(self, namespace: str, name: str) -> Manifest | None:
        """One object."""
        return self._read((namespace, name)) if (namespace, name) in self._texts else None

    def list(self, namespace: str = "", where: tuple[str, str] | None = None) -> Iterator[Manifest]:
        """All objects of a namespace (none: of all), of them those that an index has under a key."""
        return (self._read(name) for name in self.names(namespace, where) if name in self._texts)

    def names(self, namespace: str = "", where: tuple[str, str] | None = None) -> Sequence[Name]:
        """The names of the same, which costs no reading."""
        among: Iterable[Name] = self._texts if where is None else self._found.get(where, ())
        return sorted(name for name in among if namespace in ("", name[0]))

    def __len__(self) -> int:
        return len(self._texts)

    def _read(self, name: Name) -> Manifest:
        manifest: Manifest = from_json(self._texts[name])
        return manifest

    def _unindex(self, name: Name) -> None:
        for index, key in self._entries.pop(name, ()):
            found = self._found[index, key]
            found.discard(name)
            if not found:
                del self._found[index, key]


def name_of(manifest: Manifest) -> Name:
    """An object's namespace and name."""
    metadata = manifest["metadata"]
    return metadata.get("namespace", ""), metadata["name"]


def version_of(manifest: Manifest) -> int:
    """An object's resourceVersion, which Kubernetes lets clients compare as a number."""
    return int(manifest["metadata"]["resourceVersion"])
