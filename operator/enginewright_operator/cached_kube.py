"""The connection to the API server with the cache before it: a watched kind is asked for until the cache is filled.

Whatever the API server answers goes into the cache, so that nobody reads less than what was written here; and where it
refuses a write because something changed meanwhile, that something is read anew.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

from kubernetes.aio import client

from enginewright_operator import cache
from enginewright_operator.errors import ConflictError
from enginewright_operator.kube import Body, Kube, Manifest, unfenced
from enginewright_operator.paths import named_by
from enginewright_operator.watched import WATCHED, Watched


class CachedKube(Kube):
    """One connection to the API server, and what the watches told of it."""

    def __init__(
        self, api: client.ApiClient, watched: Watched, *, may_write_for: Callable[[], float] = unfenced
    ) -> None:
        super().__init__(api, may_write_for=may_write_for)
        self._watched = watched

    async def get(self, kind: str, namespace: str, name: str) -> Manifest | None:
        """One object; None if there is none."""
        known = self.known(kind, namespace, name)
        if known is not None or (self._holds(kind) and not WATCHED[kind].labels):  # else it may lack the labels
            return known
        return await super().get(kind, namespace, name)

    async def bearer(self, kind: str, namespace: str, name: str) -> Manifest | None:
        """Who bears a name, ours or not, as the API server remembers it: of a moment ago, and no question to etcd."""
        return self.known(kind, namespace, name) or await self.metadata(kind, namespace, name, remembered=True)

    def known(self, kind: str, namespace: str, name: str) -> Manifest | None:
        """One object of a watched kind as far as it is known without asking; None too where nothing is known yet."""
        return self._watched[kind].get(namespace, name) if self._holds(kind) else None

    async def find(self, kind: str, namespace: str = "", *, where: tuple[str, str] | None = None) -> list[Manifest]:
        """All objects of a watched kind, or those that one of its indexes has under a key."""
        if self._holds(kind):
            return list(self._watched[kind].list(namespace, where))
        found = await self.list(kind, namespace, labels=WATCHED[kind].labels, fields=WATCHED[kind].fields)
        return [each for each in found if where is None or where[1] in WATCHED[kind].indexes[where[0]](each)]

    def changes(self, kind: str) -> int | None:
        """How many changes of a kind were told so far; None where it is not watched, or its cache not yet filled."""
        return self._watched[kind].changes if self._holds(kind) else None

    async def each(self, kind: str) -> AsyncIterator[Manifest]:
        """All objects of a watched kind, one after another: thousands at once would take memory, and others' time."""
        for name in self._watched[kind].names():
            await asyncio.sleep(0)
            if (found := self._watched[kind].get(*name)) is not None:
                yield found

    async def relist(self, kind: str, namespaces: Sequence[str]) -> int:
        """Compare the cache of a kind with the API server; returns of how many objects the news had not come."""
        names, versions, news = set(), [], 0
        for namespace in namespaces or ("",):
            async for page in self.pages(kind, namespace, labels=WATCHED[kind].labels, fields=WATCHED[kind].fields):
                versions.append(cache.version_of(page))
                for item in page.get("items") or ():
                    item |= {"kind": kind, "apiVersion": WATCHED[kind].api_version}  # a list's items leave them out
                    names.add(cache.name_of(item))
                    news += self._watched.saw(kind, item)
        return news + self._watched.listed(kind, names, min(versions))

    async def send(self, method: str, path: str, body: Body | None = None, **how: Any) -> Manifest | None:
        """One request and its answer, from which the cache learns."""
        try:
            answer = await super().send(method, path, body, **how)
        except ConflictError:
            named = named_by(path)
            if named and named[0] in WATCHED:
                await super().get(*named)  # what was decided on is not what there is: the cache is behind
            raise
        self._learn(method, path, answer)
        return answer

    def _learn(self, method: str, path: str, answer: Manifest | None) -> None:
        if answer is None or (method == "DELETE" and answer.get("kind") == "Status"):
            named = named_by(path)
            if named and named[0] in WATCHED:
                self._watched.missed(*named)
        elif answer.get("kind") in WATCHED and _has_labels(answer):
            reported = method == "PATCH" and path.endswith("/status")  # whoever reports has just looked
            self._watched.saw(answer["kind"], answer, itself=not reported)

    def _holds(self, kind: str) -> bool:
        return kind in WATCHED and self._watched[kind].synced


def _has_labels(manifest: Manifest) -> bool:
    name, _, value = WATCHED[manifest["kind"]].labels.partition("=")
    return not name or (manifest["metadata"].get("labels") or {}).get(name) == value
