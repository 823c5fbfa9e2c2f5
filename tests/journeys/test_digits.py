"""The example by hand, command by command, as the README's reader goes on after `make demo`."""

import json
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import tritonclient.http as triton

DIGITS = Path(__file__).parents[2] / "examples" / "digits"
BATCH = 8


def test_the_digits_go_from_model_to_served_answers_and_a_clean_end(
    enginewright: Callable[..., Any], start_server: Callable[..., Any], here: Path
) -> None:
    model, plan = DIGITS / "model.onnx", here / "digits.plan"
    test = np.load(DIGITS / "test.npz", allow_pickle=False)
    images, labels = test["image"], test["labels"]

    gate = f"accuracy={DIGITS / 'test.npz'},max-drop=0.005"
    words = ("build", model, "-o", plan, "--effort", "fast", "--batch", f"1,{BATCH}", "--gate", gate, "--json")
    built = json.loads(enginewright(*words).out)
    assert (built["outcome"], built["plan_bytes"]) == ("DONE", plan.stat().st_size)
    assert [verdict["passed"] for verdict in built["gates"]] == [True]

    seen = json.loads(enginewright("inspect", plan, "--json").out)
    assert seen["digest"] == built["digest"]
    assert [schedule["inputs"][0]["shape"] for schedule in seen["schedules"]] == [[1, 1, 8, 8], [BATCH, 1, 8, 8]]

    compared = json.loads(enginewright("compare", model, plan, "--json").out)
    assert [(each["output"], each.get("reason")) for each in compared["differences"]] == [("probabilities", None)]

    np.save(here / "one.npy", images[:1])
    (output,) = json.loads(enginewright("infer", plan, "--input", "image=one.npy", "--json").out)["outputs"].values()
    assert int(np.argmax(output["data"])) == labels[0]

    process = start_server(plan, "--drain-delay", "0")
    try:
        url = json.loads(process.stdout.readline())["url"]
        assert _right(url.removeprefix("http://"), images, labels) >= 0.98
        process.send_signal(signal.SIGTERM)
        out, log = process.communicate(timeout=120)
    finally:
        process.kill()
        process.communicate()
    assert (process.returncode, out) == (0, "")
    assert all(json.loads(line)["level"] == "info" for line in log.splitlines()), log


def _right(address: str, images: Any, labels: Any) -> float:
    """The share of the images that the server is right on, in batches of both sizes that the plan has."""
    full = len(images) // BATCH * BATCH
    batches = [images[i : i + BATCH] for i in range(0, full, BATCH)] + [
        images[i : i + 1] for i in range(full, len(images))
    ]
    answers: list[int] = []
    client = triton.InferenceServerClient(address)
    try:
        assert client.is_model_ready("digits")
        for batch in batches:
            asked = triton.InferInput("image", list(batch.shape), "FP32")
            asked.set_data_from_numpy(batch.astype(np.float32))
            answers += client.infer("digits", [asked]).as_numpy("probabilities").argmax(axis=1).tolist()
    finally:
        client.close()
    return float(np.mean(np.array(answers) == labels))
