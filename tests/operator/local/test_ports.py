"""A port that another process has, or takes between our look and our server's start."""

import socket
from contextlib import closing

import pytest
from rich.console import Console

from enginewright_operator.local import ports, processes, up
from enginewright_operator.local.processes import PortTakenError
from enginewright_runtime.errors import UsageError


@pytest.fixture
def take():
    """take(): a port that someone listens on from now on."""
    taken = []

    def one(port: int = 0) -> int:
        listener = socket.create_server(("127.0.0.1", port))
        taken.append(listener)
        return listener.getsockname()[1]

    yield one
    for listener in taken:
        listener.close()


def test_a_port_that_is_taken_is_refused_if_it_was_asked_for(take) -> None:
    port = take()
    with pytest.raises(UsageError, match=f"The port {port} of this machine cannot be had"):
        ports.free_port(port, usual=1)


def test_another_port_is_found_if_none_was_asked_for(take) -> None:
    port = take()
    assert ports.free_port(None, usual=port) not in (0, port)


class Started:
    """Stands for processes.start_server: others take the port of the first `lost` servers before they listen."""

    def __init__(self, take, lost: int) -> None:
        self.take, self.lost, self.ports = take, lost, []

    def __call__(self, deployment, folder, _manifests, _ends):
        assert not any(folder.iterdir())
        port = deployment["spec"]["template"]["spec"]["containers"][0]["ports"][0]["containerPort"]
        self.ports.append(port)
        if len(self.ports) <= self.lost:
            self.take(port)
            raise PortTakenError(f"The server cannot listen on 127.0.0.1 port {port}")
        return processes.Server(process=None, url=f"http://127.0.0.1:{port}", log=folder / "log")


@pytest.fixture
def start(write, tmp_path, take, monkeypatch):
    """start(lost, port=None): `up` with a builder that is done and servers that lose their ports so often."""
    with closing(socket.create_server(("127.0.0.1", 0))) as probe:
        usual = probe.getsockname()[1]
    monkeypatch.setattr(up, "USUAL_PORT", usual)
    monkeypatch.setattr(up.Up, "_build", lambda *_: object())

    def run(lost: int, port: int | None = None) -> tuple[up.Up, list[int]]:
        servers = Started(take, lost)
        monkeypatch.setattr(processes, "start_server", servers)
        wishes = up.Wishes(file=write(), storage=tmp_path / "store", port=port, fresh=False)
        with up.Up(wishes, Console(stderr=True)) as engine:
            engine.start()
        return engine, servers.ports

    return run


def test_the_usual_port_is_taken_where_it_is_free(start) -> None:
    engine, tried = start(lost=0)
    assert tried == [up.USUAL_PORT]
    assert engine.served[0].server.url == f"http://127.0.0.1:{up.USUAL_PORT}"


def test_another_port_is_tried_where_one_is_taken_before_our_server_listens(start) -> None:
    engine, tried = start(lost=1)
    assert tried[0] == up.USUAL_PORT
    assert len(set(tried)) == 2
    assert engine.served[0].server.url == f"http://127.0.0.1:{tried[1]}"


def test_a_machine_where_every_port_is_taken_so_is_given_up(start) -> None:
    with pytest.raises(UsageError, match="took the server's port 3 times before it listened: give one with"):
        start(lost=99)


def test_one_that_was_asked_for_and_is_taken_meanwhile_is_refused_as_one_that_was_taken_before(start) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as probe:
        port = probe.getsockname()[1]
    with pytest.raises(UsageError, match=rf"The port {port} of this machine cannot be had \(Address already in use\)"):
        start(lost=1, port=port)
