"""Processes are started, watched and ended as a container's would be."""

import sys
import textwrap
import threading
from contextlib import ExitStack
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from enginewright_operator.local import processes
from enginewright_operator.local.processes import LocalProcessError, PortTakenError
from enginewright_runtime.errors import GateError
from enginewright_runtime.plan.outcome import Outcome
from enginewright_runtime.plan.request import BuildResult


def manifest(script: str, *, deadline: float = 200, probe: str = "/ready", port: int = 1):
    container = {
        "command": [sys.executable, "-c", textwrap.dedent(script)],
        "args": [],
        "env": [{"name": "MESSAGE", "value": "/dev/termination-log"}],
        "volumeMounts": [],
        "ports": [{"name": "http", "containerPort": port}],
        "readinessProbe": {"httpGet": {"path": probe, "port": "http"}},
    }
    return {
        "metadata": {"name": "the-name"},
        "spec": {
            "activeDeadlineSeconds": deadline,
            "progressDeadlineSeconds": deadline,
            "template": {
                "spec": {"containers": [container], "volumes": [], "terminationGracePeriodSeconds": 5},
            },
        },
    }


@pytest.fixture
def run_job(given, tmp_path):
    folder = tmp_path / "job"
    folder.mkdir()
    return lambda script, **more: processes.run_job(manifest(script, **more), folder, given())


def writes(result: BuildResult, code: int = 0) -> str:
    text = result.to_termination_message()
    return f"import os, pathlib\npathlib.Path(os.environ['MESSAGE']).write_text({text!r})\nraise SystemExit({code})"


def test_a_job_that_ends_well_gives_its_result(run_job) -> None:
    assert run_job(writes(BuildResult.of(Outcome.DONE, "Built."))).message == "Built."


def test_a_job_that_fails_raises_its_own_sentence_with_its_outcome(run_job) -> None:
    with pytest.raises(GateError, match=r"^Too slow by 3 ms"):
        run_job(writes(BuildResult.of(Outcome.GATE_FAILED, "Too slow by 3 ms."), code=Outcome.GATE_FAILED))


def test_a_job_that_leaves_no_message_says_so(run_job) -> None:
    with pytest.raises(LocalProcessError, match="The build the-name failed: it left no message"):
        run_job("raise SystemExit(1)")


def test_an_exit_code_of_nobody_is_told(run_job) -> None:
    with pytest.raises(LocalProcessError, match="ended with exit code 99"):
        run_job("raise SystemExit(99)")


def test_a_job_that_ends_well_without_a_result_is_not_taken_for_built(run_job) -> None:
    with pytest.raises(LocalProcessError, match="left no message"):
        run_job("pass")


def test_a_job_past_its_deadline_is_stopped(run_job) -> None:
    with pytest.raises(LocalProcessError, match=r"stopped after 0\.2 s, its deadline: raise spec\.build\.deadline"):
        run_job("import time; time.sleep(60)", deadline=0.2)


def test_a_program_that_is_not_there_says_what_to_install(given, tmp_path) -> None:
    job = manifest("pass")
    job["spec"]["template"]["spec"]["containers"][0]["command"] = ["no-such-program"]
    with pytest.raises(LocalProcessError, match=r"'no-such-program' cannot be started .*pip install"):
        processes.run_job(job, tmp_path, given())


def test_a_container_does_not_get_the_variables_of_whoever_typed_the_command(run_job, monkeypatch) -> None:
    monkeypatch.setenv("ENGINEWRIGHT_THREADS", "7")
    script = "import os\nassert 'ENGINEWRIGHT_THREADS' not in os.environ\n"
    assert run_job(script + writes(BuildResult.of(Outcome.DONE, "Clean."))).message == "Clean."


SERVER = """
    import http.server, json
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200 if self.path == "/ready" else 503)
            self.end_headers()
        def log_message(self, *_): pass
    server = http.server.HTTPServer(("127.0.0.1", {port}), Handler)
    print("Listening.")
    print(json.dumps({"event": "listening", "url": "http://127.0.0.1:{port}"}), flush=True)
    server.serve_forever()
"""


@pytest.fixture
def ends():
    with ExitStack() as stack:
        yield stack


@pytest.fixture
def start(given, tmp_path, unused_tcp_port, ends):
    folder = tmp_path / "serve"
    folder.mkdir()

    def run(script: str = SERVER, **more):
        text = script.replace("{port}", str(unused_tcp_port))
        return processes.start_server(manifest(text, port=unused_tcp_port, **more), folder, given(), ends)

    return run


@pytest.fixture
def impostor(unused_tcp_port):
    """Another's server on the very port, which answers every request as if it were ready; it counts them."""
    asked = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_): ...

    with HTTPServer(("127.0.0.1", unused_tcp_port), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield asked
        server.shutdown()
        thread.join()


def test_a_server_is_given_back_when_its_probe_is_answered_and_ends_with_its_stack(start, ends) -> None:
    server = start()
    assert server.process.poll() is None
    ends.close()
    assert server.process.returncode == -15


@pytest.mark.usefixtures("impostor")
def test_a_server_of_another_on_the_port_is_not_taken_for_ours_that_ended(start) -> None:
    with pytest.raises(LocalProcessError, match="exit code 14 before it was ready: the plan is damaged"):
        start("import sys; print('the plan is damaged'); sys.exit(14)")


def test_a_server_of_another_on_the_port_is_not_even_asked_while_ours_starts(start, impostor) -> None:
    with pytest.raises(LocalProcessError, match="was not ready after 1 s"):
        start("import time; time.sleep(60)", deadline=1)
    assert impostor == []


@pytest.mark.usefixtures("impostor")
def test_the_real_server_on_a_port_that_is_taken_is_told_from_every_other_end(given, tmp_path, unused_tcp_port, ends):
    command = ["enginewright", "serve", "no.plan", "--http-port", str(unused_tcp_port)]
    deployment = manifest("", port=unused_tcp_port)
    deployment["spec"]["template"]["spec"]["containers"][0]["command"] = command
    with pytest.raises(PortTakenError, match=f"cannot listen on 127.0.0.1 port {unused_tcp_port}"):
        processes.start_server(deployment, tmp_path, given(), ends)


def test_a_server_that_never_becomes_ready_is_stopped(start) -> None:
    with pytest.raises(LocalProcessError, match="the-name was not ready after 1 s"):
        start(probe="/never", deadline=1)


def test_a_server_that_ends_too_early_shows_the_end_of_its_log(start) -> None:
    with pytest.raises(LocalProcessError, match="exit code 14 before it was ready: the plan is damaged"):
        start("import sys; print('the plan is damaged'); sys.exit(14)")


def test_a_server_that_ignores_sigterm_is_killed(start) -> None:
    server = start("    import signal; signal.signal(15, signal.SIG_IGN)\n" + SERVER.lstrip("\n"))
    assert processes.end(server.process, grace=0.2) == -9
