"""Starting and ending: ready only after the goldens, and a drain under load that drops nothing."""

import http.client
import json
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from enginewright_runtime.plan.manifest import Binding, Schedule, Segment

MakePlan = Callable[..., Path]
X = np.ones((2, 4), np.float32)
REQUEST = json.dumps(
    {"inputs": [{"name": "x", "datatype": "FP32", "shape": [2, 4], "data": X.reshape(-1).tolist()}]}
).encode()


def post(url: str, request: bytes = REQUEST) -> int:
    with urllib.request.urlopen(urllib.request.Request(url, request), timeout=120) as answer:
        answer.read()
        return int(answer.status)


def ask(connection: http.client.HTTPConnection) -> int:
    connection.request("POST", "/v2/models/small/infer", REQUEST)
    answer = connection.getresponse()
    answer.read()
    return answer.status


def metrics(url: str) -> str:
    with urllib.request.urlopen(f"{url}/metrics", timeout=60) as answer:
        return str(answer.read(), "utf-8")


def ready(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/v2/health/ready", timeout=60) as answer:
            return bool(answer.status == 200)
    except urllib.error.HTTPError as error:
        error.close()
        return False


def until(condition: Callable[[], bool], what: str) -> None:
    """Wait for it. The limit is only for what never happens."""
    deadline = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.02)


def held_up(make_plan: MakePlan, door: Path) -> Path:
    """A plan of the model `held`: y = x, as soon as there is a file `door`."""
    binding = {"dtype": "float32", "shape": (2, 4)}
    source = f"""
import pathlib, time
from enginewright_runtime.plugins import plugin

@plugin("com.example.Hold")
def hold(x):
    while not pathlib.Path({str(door)!r}).exists():
        time.sleep(0.01)
    return x
"""
    part = {"inputs": ["x"], "outputs": ["y"], "blob": "hold.py", "plugin": "com.example.Hold"}
    blobs = {"parts": json.dumps({"parts": [part]}).encode(), "hold.py": source.encode()}
    segment = Segment(executor="plugins", inputs=("x",), outputs=("y",), blob="parts", options={"blobs": ["hold.py"]})
    schedule = Schedule(
        inputs=(Binding(name="x", **binding),), outputs=(Binding(name="y", **binding),), segments=(segment,)
    )
    return make_plan(name="held", schedules=[schedule], blobs=blobs)


def test_it_says_what_it_serves_and_where(serve: Any, make_plan: MakePlan, models: Any) -> None:
    served = serve(make_plan(models.small()), f"other={make_plan(models.small(), name='x')}", "--drain-delay", "0")
    text = "\n".join(served.lines)
    assert "Serving small (version " in text
    assert f"at {served.url}/v2/models/other" in text
    assert post(f"{served.url}/v2/models/other/infer") == 200
    assert served.stop() == 0


@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGINT])
def test_it_ends_with_0_when_told_to(serve: Any, make_plan: MakePlan, models: Any, sent: signal.Signals) -> None:
    served = serve(make_plan(models.small()), "--drain-delay", "0.1")
    assert served.stop(sent) == 0


def test_a_golden_that_fails_keeps_it_from_ever_being_ready(make_plan: MakePlan, models: Any) -> None:
    plan = make_plan(models.small(), goldens=[(0, {"x": X}, {"scores": np.ones((2, 3), np.float32)})])
    command = [sys.executable, "-m", "enginewright_runtime.cli", "serve", str(plan), "--http-port", "0"]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=200, check=False)
    assert ended.returncode == 14
    assert "does not give its golden output 'scores' on this machine" in ended.stderr
    assert "Ready." not in ended.stdout


def test_an_address_in_use_is_a_usage_error(serve: Any, make_plan: MakePlan, models: Any) -> None:
    plan = make_plan(models.small())
    port = serve(plan, "--drain-delay", "0").url.rsplit(":", 1)[1]
    command = [sys.executable, "-m", "enginewright_runtime.cli", "serve", str(plan), "--http-port", port]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=200, check=False)
    assert ended.returncode == 2
    assert f"cannot listen on 127.0.0.1 port {port}" in ended.stderr


def test_a_drain_drops_no_request_of_a_client_that_heeds_readiness(
    serve: Any, make_plan: MakePlan, models: Any
) -> None:
    # Long beside the moment that the clients need, on a busy machine too.
    served = serve(make_plan(models.small()), "--drain-delay", "6")
    failed: list[BaseException] = []
    before: list[int] = []
    after: list[int] = []

    def load() -> None:
        # One connection kept alive; http.client opens a new one after an answer with Connection: close.
        connection = http.client.HTTPConnection(served.url.removeprefix("http://"), timeout=120)
        try:
            while ready(served.url):
                (after if told.is_set() else before).append(ask(connection))
            # Endpoints take a moment to propagate: requests still come, and are still answered.
            after.extend(ask(connection) for _ in range(10))
        except BaseException as error:
            failed.append(error)
            raise
        finally:
            connection.close()

    told = threading.Event()
    workers = [threading.Thread(target=load) for _ in range(2)]
    for worker in workers:
        worker.start()
    until(lambda: len(before) > 20 or failed != [], "the clients never asked")
    told.set()
    code = served.stop()
    for worker in workers:
        worker.join()
    assert failed == []
    assert set(before) == {200}
    assert set(after) == {200}
    assert len(after) >= 20
    assert code == 0


def test_requests_in_flight_are_finished(serve: Any, make_plan: MakePlan, tmp_path: Path) -> None:
    door = tmp_path / "door"
    served = serve(held_up(make_plan, door), "--allow-plugins", "--drain-delay", "0", "--concurrency", "1")
    answers: list[int] = []
    workers = [
        threading.Thread(target=lambda: answers.append(post(f"{served.url}/v2/models/held/infer"))) for _ in range(3)
    ]
    for worker in workers:
        worker.start()
    until(lambda: "enginewright_requests_in_flight 3.0" in metrics(served.url), "they never were in flight at once")
    served.process.send_signal(signal.SIGTERM)
    until(lambda: any('"draining"' in line for line in served.log), "it was told to end")
    assert (answers, served.process.poll()) == ([], None)
    door.touch()
    for worker in workers:
        worker.join()
    assert answers == [200, 200, 200]
    assert served.ended() == 0


def test_a_plan_comes_from_storage_through_the_cache(
    serve: Any, make_plan: MakePlan, models: Any, tmp_path: Path
) -> None:
    plan, cache = make_plan(models.small(), name="engine"), tmp_path / "cache"
    for _ in range(2):  # the second start finds it in the cache
        served = serve(f"small=file://{plan}", "--cache", cache, "--drain-delay", "0")
        assert post(f"{served.url}/v2/models/small/infer") == 200
        assert served.stop() == 0
    assert len(list(cache.glob("small-*.plan"))) == 1


def test_settings_come_from_the_environment_and_flags_win(serve: Any, make_plan: MakePlan, models: Any) -> None:
    served = serve(
        make_plan(models.small()), "--drain-delay", "0", ENGINEWRIGHT_MAX_BODY="10", ENGINEWRIGHT_DRAIN_DELAY="1000"
    )
    with pytest.raises(urllib.error.HTTPError, match="413") as refused:
        post(f"{served.url}/v2/models/small/infer")
    refused.value.close()
    assert served.stop() == 0  # which waits for less than that


def test_logs_are_json_and_never_hold_a_body(serve: Any, make_plan: MakePlan, models: Any) -> None:
    served = serve(make_plan(models.small()), "--drain-delay", "0", "--access-log", "1")
    secret = REQUEST.replace(b'"x"', b'"secret-name"')
    with pytest.raises(urllib.error.HTTPError) as refused:
        post(f"{served.url}/v2/models/small/infer", secret)
    refused.value.close()
    post(f"{served.url}/v2/models/small/infer")
    assert served.stop() == 0
    events = [json.loads(line) for line in served.log]
    requests = [event["status"] for event in events if event["event"] == "request"]
    assert requests == [400, 200]
    assert {"listening", "loaded", "ready", "draining", "stopped"} <= {event["event"] for event in events}
    assert "secret-name" not in "".join(served.log)
