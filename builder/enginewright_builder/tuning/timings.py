"""The timing cache: what was measured for a problem on a target, so that nobody measures it again.

A folder of small JSON files, one a key, each written once and whole (write beside, rename): builds may share it while
they run, an interrupted build leaves what it has, and the first writer wins, so that equal builds choose equally. The
key covers the problem, the device with its libraries, and the builder's version: what it does not cover cannot change
a time. Entries of other builders (tuning/sharing.py) count before the folder's, so that all choose equally, and are
kept here only once the tuner has checked what they make it choose.
"""

import json
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from enginewright_runtime.errors import PlanError
from enginewright_runtime.plan import records

FORMAT = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Timed:
    """What became of a candidate. `error` is a share of what is allowed, `dropped` says why it was not timed."""

    tactic: str
    name: str
    microseconds: float = 0.0
    error: float = 0.0
    dropped: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """All candidates of one problem, fastest first, then the dropped ones; `key` is what the file's name is made of."""

    timed: tuple[Timed, ...]
    format: int = FORMAT


def key(*parts: object) -> str:
    """64 hexadecimal digits that stand for these records."""
    return sha256(b"\0".join(records.canonical(part) for part in parts)).hexdigest()


class Timings:
    """The cache in a folder; with None it only remembers for the length of one build. `shared` is from elsewhere."""

    def __init__(self, folder: Path | None, shared: Mapping[str, Entry] | None = None) -> None:
        self._folder = folder
        self._known: dict[str, Entry] = {}
        self._shared = dict(shared or {})
        self._passing: set[str] = set()
        self._unproven = {name for name, entry in self._shared.items() if self._read(name) != entry}
        self.hits = 0
        self.misses = 0

    def get(self, name: str) -> Entry | None:
        """The entry of a key. A file that is damaged counts as none."""
        found = self._known.get(name) or self._shared.get(name) or self._read(name)
        if found is None:
            self.misses += 1
        else:
            self.hits += 1
            self._known[name] = found
        return found

    def put(self, name: str, entry: Entry, *, keep: bool = True) -> Entry:
        """Keep an entry (else only for this build) unless there is one already; returns the one that counts."""
        there = self._known.get(name) or self._read(name)
        if there is None:
            there = entry
            if keep:
                self._write(name, records.to_json(entry))
            else:
                self._passing.add(name)
        self._known[name] = there
        return there

    def unproven(self, name: str) -> bool:
        """Whether an entry is another builder's word that nobody here has checked."""
        return name in self._unproven

    def prove(self, name: str) -> None:
        """What an entry led to was checked here: it is kept as our own."""
        if name in self._unproven:
            self._unproven.remove(name)
            self._write(name, records.to_json(self._shared[name]))

    def forget(self, name: str) -> None:
        """Another builder's entry led to something wrong: it counts no longer."""
        if name in self._unproven:
            self._unproven.remove(name)
            del self._shared[name]
            self._known.pop(name, None)

    def unshared(self) -> dict[str, Entry]:
        """What this build used and the others do not have."""
        return {
            name: entry for name, entry in self._known.items() if name not in self._shared and name not in self._passing
        }

    def _path(self, name: str) -> Path | None:
        return None if self._folder is None else self._folder / name[:2] / f"{name}.json"

    def _read(self, name: str) -> Entry | None:
        path = self._path(name)
        try:
            text = path.read_bytes() if path is not None else None
        except OSError:
            return None
        if text is None:
            return None
        try:
            entry = records.from_json(Entry, records.parse(text, what=f"The timing {path}"), what="timing")
        except PlanError:
            return None
        return entry if entry.format == FORMAT else None

    def _write(self, name: str, value: Mapping[str, Any]) -> None:
        path = self._path(name)
        if path is None:
            return
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile("w", dir=path.parent, delete=False, encoding="utf-8") as file:
                file.write(json.dumps(value, indent=1))
            os.replace(file.name, path)
        except OSError:
            return  # a cache that cannot be written costs the next build time, not this one its result
