"""Where served plans come from: names and URIs from the command line, fetched to the cache folder.

A cached plan is keyed by its URI and the store's own version of it, so a plan replaced in place is fetched again and
an unchanged one is not.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from enginewright_runtime.errors import PlanError, UsageError
from enginewright_runtime.plan.request import StoreOptions

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_DIGEST = re.compile(
    r"/plans/[^/]+/([0-9a-f]{64})/[^/]+"
)  # docs/architecture.md: <storage>/plans/<namespace>/<digest>/


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A plan to serve as `name`; `uri` is a path of this machine where it has no scheme."""

    name: str
    uri: str

    @property
    def local(self) -> bool:
        """Whether the plan is a file named by its path."""
        return "://" not in self.uri


def parse(words: Sequence[str]) -> tuple[Source, ...]:
    """`name=URI`, `URI`, `name=path` or `path`; without a name it is the file's own. Raises UsageError."""
    if not words:
        raise UsageError("There is no plan to serve: name at least one, as X.plan or name=URI.")
    sources: list[Source] = []
    for word in words:
        name, separator, uri = word.partition("=")
        if not separator or not NAME.fullmatch(name):
            name, uri = Path(word).stem, word
        if not NAME.fullmatch(name):
            raise UsageError(f"The plan {word!r} gives no usable model name: write it as name={word}.")
        sources.append(Source(name=name, uri=uri))
    return tuple(sources)


def require_named(source: Source, digest: str) -> None:
    """Raise PlanError where the plan of this digest lies under another one's name: a signed plan, put in its place."""
    named = _DIGEST.search(source.uri)
    if named and named[1] != digest:
        raise PlanError(
            f"The plan at {source.uri} is of the recipe {digest[:16]}, and its URI names {named[1][:16]}: somebody put "
            "another plan there; delete the EnginePlan, and it is built again."
        )


def fetch(source: Source, cache: Path, options: StoreOptions) -> Path:
    """The plan as a file of this machine. Raises StorageError and its kin."""
    if source.local:
        return Path(source.uri)
    from enginewright_runtime.storage.open import open_store  # here: serving a local file needs no storage

    store = open_store(source.uri, options)
    version = store.head(source.uri).version
    path = cache / f"{source.name}-{sha256(f'{source.uri} {version}'.encode()).hexdigest()[:32]}.plan"
    if not path.exists():
        cache.mkdir(parents=True, exist_ok=True)
        store.download(source.uri, path)
    return path
