"""Where the timing cache of a build lies: a folder of this machine, and object storage that builders share."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from enginewright_builder.tuning import timings
from enginewright_builder.tuning.sharing import Shared
from enginewright_builder.tuning.timings import Timings
from enginewright_runtime.errors import EnginewrightError
from enginewright_runtime.plan.request import BuildRequest, StoreOptions
from enginewright_runtime.storage import open as stores
from enginewright_runtime.storage import uris

VARIABLE = "ENGINEWRIGHT_TIMING_CACHE"  # a folder instead of the one below; empty for none; or a URI, to share
HERE = "~/.cache/enginewright/timings"


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """`folder` of this machine (None: nothing is kept), and the URI that is shared ("": none), with how to reach it."""

    folder: Path | None
    shared: str = ""
    storage: StoreOptions = field(default_factory=StoreOptions)


def address(request: BuildRequest, environment: Mapping[str, str]) -> Address:
    """Where this build's cache lies. A URI in the environment counts before the request's."""
    word = environment.get(VARIABLE)
    if word and uris.scheme(word):
        return Address(folder=_here(), shared=word, storage=request.storage)
    folder = _here() if word is None else Path(word) if word else None
    return Address(folder=folder, shared=request.timing_cache, storage=request.storage)


@contextmanager
def opened(where: Address, target: Sequence[object], say: Callable[[str], None]) -> Iterator[Timings]:
    """The cache of one target (its device, libraries and builder). However the build ends, what it measured stays."""
    shared = _shared(where, timings.key(*target), say)
    cache = Timings(where.folder, shared.fetch() if shared is not None else None)
    try:
        yield cache
    finally:
        if shared is not None:
            shared.share(cache.unshared())


def _here() -> Path | None:
    try:
        return Path(HERE).expanduser()
    except RuntimeError:  # a pod's user that has no home
        return None


def _shared(where: Address, target: str, say: Callable[[str], None]) -> Shared | None:
    if not where.shared:
        return None
    try:
        store = stores.open_store(where.shared, where.storage)
    except EnginewrightError as error:
        say(f"The timing cache {where.shared} cannot be used, so this build measures by itself: {error.message}")
        return None
    return Shared(store=store, prefix=f"{where.shared.rstrip('/')}/{target[:32]}/", say=say)
