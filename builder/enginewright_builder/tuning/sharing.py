"""The timing cache in object storage: what one builder measured, every builder of the same target finds.

A folder for each device with its libraries and builder; in it bundles, each named by the sha256 of its bytes and never
changed. Reading is one listing and a few fetches, sharing is one upload. A merge stores the union before it deletes
what went into it, so that builders at work at the same time lose none of each other's entries, without any lock.

Whoever can write there is not trusted: sizes are bounded, every record is checked, and the tuner checks each choice
that comes from here. A store that is down or damaged costs time, never a build.
"""

import tempfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from itertools import islice
from pathlib import Path

from enginewright_builder.tuning.timings import FORMAT, Entry
from enginewright_runtime.errors import EnginewrightError, ObjectMissingError, PlanError
from enginewright_runtime.plan import records
from enginewright_runtime.storage.store import ObjectStore, StoredObject

MOST_BYTES = 8 << 20  # of a bundle: some thousands of problems
MOST_BUNDLES = 32  # that are read
MERGE_FROM = 8  # bundles: fewer are not worth a merge
_LISTED = 1000  # objects looked at: a page of a listing
_CANDIDATES = 1000  # of an entry
_TEXT = 400  # characters of a name or a reason


@dataclass(frozen=True, slots=True, kw_only=True)
class Bundle:
    """What one builder shares: entries by key."""

    entries: Mapping[str, Entry]
    format: int = FORMAT


@dataclass(slots=True, kw_only=True)
class Shared:
    """The folder `prefix` (ending in "/") of a store. `say` hears one sentence when it cannot be used."""

    store: ObjectStore
    prefix: str
    say: Callable[[str], None]
    _merged: dict[str, Entry] = field(default_factory=dict)
    _read: list[str] = field(default_factory=list)  # URIs of the bundles in `_merged`

    def fetch(self) -> dict[str, Entry]:
        """Every entry that can be read. Where builders differ on a key, all of them take the same one."""
        try:
            if not self._take_all():
                self._take_all()  # somebody merged meanwhile: once more finds what the lost ones went into
        except (EnginewrightError, OSError) as error:
            self.say(f"The timing cache {self.prefix} cannot be read, so this build measures by itself: {error}")
        return dict(self._merged)

    def share(self, entries: Mapping[str, Entry]) -> None:
        """Store these entries beside the others', or one bundle in place of many."""
        if not entries:
            return
        merge = len(self._read) + 1 >= MERGE_FROM
        # With the entries of this build first: where not all fit, what nobody used is what goes.
        content = _bytes(_union([entries, self._merged]) if merge else entries)
        try:
            uri = self._store(content)
            for old in self._read if merge else ():
                if old != uri:
                    self.store.delete(old)
        except (EnginewrightError, OSError) as error:
            self.say(f"What was measured cannot be shared at {self.prefix}: {error}")

    def _take_all(self) -> bool:
        """Whether every bundle that was listed was still there."""
        listed = sorted(islice(self.store.list(self.prefix), _LISTED), key=lambda each: each.uri)
        fitting = [each for each in listed if each.bytes <= MOST_BYTES and each.uri not in self._read]
        whole = True
        for each in fitting[:MOST_BUNDLES]:
            try:
                self._take(each)
            except ObjectMissingError:
                whole = False
        return whole

    def _take(self, listed: StoredObject) -> None:
        with tempfile.TemporaryDirectory(prefix="enginewright-timings-") as folder:
            path = Path(folder, "bundle.json")
            self.store.download(listed.uri, path)
            if path.stat().st_size > MOST_BYTES:
                return
            content = path.read_bytes()
        if listed.uri != self._uri(content):
            return
        try:
            found = _parse(content)
        except PlanError:
            return
        self._merged = _union([self._merged, found])
        self._read.append(listed.uri)

    def _store(self, content: bytes) -> str:
        uri = self._uri(content)
        with tempfile.TemporaryDirectory(prefix="enginewright-timings-") as folder:
            path = Path(folder, "bundle.json")
            path.write_bytes(content)
            self.store.upload(path, uri)
        return uri

    def _uri(self, content: bytes) -> str:
        return f"{self.prefix}{sha256(content).hexdigest()}.json"


def _union(bundles: Iterable[Mapping[str, Entry]]) -> dict[str, Entry]:
    """Of two entries of one key that whose digest is smaller: the same, whatever the order of merging."""
    found: dict[str, Entry] = {}
    for bundle in bundles:
        for name, entry in bundle.items():
            there = found.get(name)
            found[name] = entry if there is None else min(there, entry, key=records.digest)
    return found


def _bytes(entries: Mapping[str, Entry]) -> bytes:
    """A bundle of as many entries as fit, the first ones first."""
    kept: dict[str, Entry] = {}
    size = len(records.canonical(Bundle(entries={})))
    for name, entry in entries.items():
        size += len(records.canonical({name: entry}))
        if size > MOST_BYTES:
            break
        kept[name] = entry
    return records.canonical(Bundle(entries=kept))


def _parse(content: bytes) -> dict[str, Entry]:
    """The entries of a bundle that can be used. Raises PlanError where it is none."""
    bundle = records.from_json(Bundle, records.parse(content, what="The bundle"), what="bundle")
    if bundle.format != FORMAT:
        return {}
    return {name: entry for name, entry in bundle.entries.items() if _fits(name, entry)}


def _fits(name: str, entry: Entry) -> bool:
    texts = [text for each in entry.timed for text in (each.tactic, each.name, each.dropped)]
    return (
        len(name) == 64
        and set(name) <= set("0123456789abcdef")
        and entry.format == FORMAT
        and len(entry.timed) <= _CANDIDATES
        and all(each.microseconds >= 0 and each.error >= 0 for each in entry.timed)
        and all(len(text) <= _TEXT and text.isprintable() for text in texts)
    )
