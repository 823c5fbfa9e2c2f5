"""Which kinds are watched: an optional one only where the cluster has it and the operator may, and why not is said."""

from typing import Any, cast

import pytest

from enginewright_operator.api import GPUClassSpec
from enginewright_operator.errors import ClusterError, ForbiddenError
from enginewright_operator.gather import kinds
from enginewright_operator.kube import Kube
from enginewright_operator.settings import Settings
from enginewright_operator.watched import WATCHED

NEEDED = [kind for kind in WATCHED if kind != "ResourceSlice"]


class Server:
    """An API server with these plurals, on which the operator may do so with slices; what it was asked is noted."""

    def __init__(self, *plurals: str, may: tuple[str, ...] = (), error: ClusterError | None = None) -> None:
        self._plurals, self._may, self._error = set(plurals), may, error
        self.asked: list[str] = []

    async def discover(self, api_version: str) -> set[str]:
        self.asked.append(api_version)
        return self._plurals

    async def send(self, method: str, path: str, body: Any) -> Any:
        if self._error is not None:
            raise self._error
        wanted = body["spec"]["resourceAttributes"]
        assert (wanted["group"], wanted["resource"]) == ("resource.k8s.io", "resourceslices")
        self.asked.append(wanted["verb"])
        return {"status": {"allowed": wanted["verb"] in self._may}}


async def watchable(server: Server, settings: Settings | None = None) -> list[str]:
    return list(await kinds.watchable(cast(Kube, server), settings or Settings()))


async def test_slices_are_watched_where_there_are_any_and_it_is_allowed() -> None:
    assert await watchable(Server("resourceslices", may=("list", "watch"))) == list(WATCHED)


@pytest.mark.parametrize(
    ("server", "why"),
    [
        (Server(may=("list", "watch")), "this cluster has no resourceslices of resource.k8s.io/v1"),
        (Server("resourceslices", may=("list",)), "ClusterRole lacks watch of resourceslices.resource.k8s.io"),
        (Server("resourceslices"), "ClusterRole lacks list and watch of resourceslices.resource.k8s.io"),
        (Server("resourceslices", error=ForbiddenError("no")), "ClusterRole lacks list and watch"),
    ],
    ids=["no API", "as before", "nothing allowed", "not even to ask"],
)
async def test_slices_that_cannot_be_watched_are_left_out_and_one_sentence_says_why(
    server: Server, why: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    assert await watchable(server) == NEEDED
    (told,) = caplog.messages
    assert told.startswith("ResourceSlices are not watched")
    assert why in told


async def test_a_question_that_gets_no_answer_is_asked_again_later() -> None:
    with pytest.raises(ClusterError):
        await watchable(Server("resourceslices", error=ClusterError("down")))


async def test_with_roles_alone_nothing_cluster_scoped_is_watched_and_nothing_asked() -> None:
    server = Server("resourceslices", may=("list", "watch"))
    settings = Settings(gpu_classes={"cpu": GPUClassSpec(kind="cpu")}, watch_namespaces=("a",))
    assert await watchable(server, settings) == [kind for kind in NEEDED if kind != "GPUClass"]
    assert server.asked == []
