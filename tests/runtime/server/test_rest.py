"""The protocol over HTTP: what is answered, and each refusal with its status and sentence."""

import asyncio
import gzip
import json
import re
from typing import Any

import numpy as np
import pytest

from enginewright_runtime.server.dataplane import State

X = np.ones((2, 4), np.float32)
INFER = "/v2/models/small/infer"


def body(**changes: Any) -> bytes:
    """A good request with some keys of its only input changed; None removes one."""
    tensor = {"name": "x", "datatype": "FP32", "shape": [2, 4], "data": [1.0] * 8, **changes}
    return json.dumps({"inputs": [{k: v for k, v in tensor.items() if v is not None}]}).encode()


async def test_the_server_tells_its_name_and_extensions(served: Any) -> None:
    status, answer = await served.get("/v2")
    assert status == 200
    assert answer["name"] == "enginewright"
    assert answer["extensions"] == ["binary_tensor_data"]


async def test_a_model_tells_its_inputs_and_outputs(served: Any) -> None:
    for path in ("/v2/models/small", "/v2/models/small/versions/v1"):
        status, answer = await served.get(path)
        assert status == 200
        assert len(answer.pop("parameters")["digest"]) == 64
        assert answer == {
            "name": "small",
            "versions": ["v1"],
            "platform": "enginewright_cpu",
            "inputs": [{"name": "x", "datatype": "FP32", "shape": [2, 4]}],
            "outputs": [{"name": "scores", "datatype": "FP32", "shape": [2, 3]}],
        }


@pytest.mark.parametrize(
    ("state", "status"), [(State.READY, 200), (State.STARTING, 503), (State.DRAINING, 503)], ids=str
)
async def test_readiness_follows_the_state_and_liveness_does_not(served: Any, state: State, status: int) -> None:
    served.dataplane.state = state
    assert (await served.get("/v2/health/ready"))[0] == status
    assert (await served.get("/v2/models/small/ready"))[0] == status
    assert (await served.get("/v2/health/live"))[0] == 200


async def test_a_model_that_is_still_loading_is_not_missing(served: Any) -> None:
    served.dataplane.state = State.STARTING
    status, answer = await served.get("/v2/models/later")
    assert status == 503
    assert "still loading" in answer["error"]


async def test_json_in_and_json_out(served: Any) -> None:
    request = json.loads(body()) | {"id": "mine"}
    status, answer = await served.post(INFER, json.dumps(request).encode())
    assert status == 200
    assert answer == {
        "model_name": "small",
        "model_version": "v1",
        "id": "mine",
        "outputs": [{"name": "scores", "datatype": "FP32", "shape": [2, 3], "data": [0, 2, 6, 0, 2, 6]}],
    }


async def test_binary_in_and_binary_out(served: Any) -> None:
    tensor = {"name": "x", "datatype": "FP32", "shape": [2, 4], "parameters": {"binary_data_size": X.nbytes}}
    head = json.dumps({"inputs": [tensor], "parameters": {"binary_data_output": True}}).encode()
    headers = {"Inference-Header-Content-Length": str(len(head))}
    async with served.client.post(INFER, data=head + X.tobytes(), headers=headers) as answer:
        assert answer.status == 200
        assert answer.content_type == "application/octet-stream"
        length = int(answer.headers["Inference-Header-Content-Length"])
        data = await answer.read()
    assert json.loads(data[:length])["outputs"][0]["parameters"] == {"binary_data_size": 24}
    np.testing.assert_array_equal(np.frombuffer(data[length:], np.float32), [0, 2, 6, 0, 2, 6])


async def test_while_draining_requests_are_answered_and_connections_close(served: Any) -> None:
    served.dataplane.state = State.DRAINING
    async with served.client.post(INFER, data=body()) as answer:
        assert answer.status == 200
        assert answer.headers["Connection"] == "close"


async def test_a_callers_request_id_comes_back(served: Any) -> None:
    async with served.client.get("/v2/health/live", headers={"X-Request-Id": "r1"}) as answer:
        assert answer.headers["X-Request-Id"] == "r1"


async def test_the_repository_index_lists_the_models(served: Any) -> None:
    expected = [{"name": "small", "version": "v1", "state": "READY", "reason": ""}]
    assert await served.post("/v2/repository/index", b"") == (200, expected)


@pytest.mark.parametrize(
    ("sent", "headers", "status", "sentence"),
    [
        (b"{", {}, 400, "The request is not JSON"),
        (b"[" * 10_000, {}, 413, "The body may have 4096 bytes, got 10000 bytes"),
        (b"[" * 4000, {}, 400, "The request is not JSON"),
        (b"[]", {}, 400, "must be a JSON object, got list"),
        (b"{}", {}, 400, "has no list 'inputs'"),
        (b'{"inputs": [7]}', {}, 400, "Each input must be an object with a 'name', got 7"),
        (body(datatype="FP31"), {}, 400, "must have a datatype, one of BOOL"),
        (body(datatype="FP64"), {}, 400, "The input 'x' must have the datatype FP32, got FP64."),
        (body(shape=[2, -4]), {}, 400, "numbers of 0 or more, got [2, -4]"),
        (body(shape=[2, 4.0]), {}, 400, "numbers of 0 or more"),
        (body(shape=None), {}, 400, "must have a shape"),
        (body(shape=[1] * 33), {}, 400, "at most 32 numbers"),
        (body(shape=[1 << 40, 1 << 40]), {}, 400, "1208925819614629174706176 elements, got 8"),
        (body(shape=[2, 3]), {}, 400, "which is 6 elements, got 8"),
        (body(shape=[4, 2]), {}, 400, "No schedule of the plan takes these shapes: got x [4, 2]"),
        (body(data=[[1.0] * 2] * 4), {}, 400, "and its nested data [4, 2]"),
        (body(data=None), {}, 400, "neither a list 'data' nor a binary_data_size"),
        (body(data=["1"] * 8), {}, 400, "must be FP32 throughout"),
        (body(data=[None] * 8), {}, 400, "must be FP32 throughout"),
        (body(data=[[1.0], 1.0]), {}, 400, "not a regular list of FP32"),
        (body(data=[1e300] * 8), {}, 400, "too large for FP32"),
        (b'{"inputs": [{"name": "x", "datatype": "FP32", "shape": [1], "data": [NaN]}]}', {}, 400, "NaN is not a JSON"),
        (body(datatype="INT8", data=[300] * 8), {}, 400, "has 300, too much for INT8"),
        (body(datatype="UINT64", data=[0, 1 << 64] * 4), {}, 400, "has 18446744073709551616, too much for UINT64"),
        (body(datatype="UINT64", data=[0, -1, 1 << 63, 0] * 2), {}, 400, "has -1, too much for UINT64"),
        (body(datatype="UINT64", data=[0, True, 1 << 63, 0] * 2), {}, 400, "must be UINT64 throughout"),
        (body(datatype="INT8", data=[1.5] * 8), {}, 400, "must be INT8 throughout"),
        (body(datatype="BYTES", data=[1] * 8), {}, 400, "must be text (BYTES), got 1"),
        (body(datatype="FP16"), {}, 400, "is FP16, which has no JSON form"),
        (body(name="y"), {}, 400, "The model has no input 'y'; its inputs are x"),
        (b'{"inputs": []}', {}, 400, "The input 'x' is missing"),
        (body(parameters={"binary_data_size": 32}), {}, 400, "has no header Inference-Header-Content-Length"),
        (body(parameters={"shared_memory_region": "r"}), {}, 400, "shared memory, which this server does not offer"),
        (body(parameters=7), {}, 400, "parameters of the input must be an object"),
        (body(), {"Inference_Header_Content_Length": "99999"}, 400, "at most the body's"),
        (body(), {"Inference_Header_Content_Length": "-1"}, 400, "must be a number"),
        (body(), {"Inference_Header_Content_Length": "9" * 5000}, 400, "must be a number of at most"),
        (body(), {"Inference_Header_Content_Length": "0" * 5000}, 400, "must be a number of at most"),
        (body() + b"xx", {"Inference_Header_Content_Length": str(len(body()))}, 400, "2 bytes after the last input"),
    ],
)
async def test_a_bad_request_is_refused_with_a_sentence(
    served: Any, sent: bytes, headers: dict[str, str], status: int, sentence: str
) -> None:
    got, answer = await served.post(INFER, sent, **headers)
    assert sentence in answer["error"]
    assert got == status


@pytest.mark.parametrize(
    ("size", "data", "sentence"),
    [
        (32, b"short", "claims 32 bytes of binary data, and the body has 5 left"),
        (5, b"short", "takes 32 bytes, got 5"),
        (-1, b"", "must be a number of bytes, got -1"),
        (True, b"", "must be a number of bytes, got True"),
        (1 << 70, b"", "claims 1180591620717411303424 bytes"),
    ],
)
async def test_binary_data_of_the_wrong_size_is_refused(served: Any, size: int, data: bytes, sentence: str) -> None:
    head = body(data=None, parameters={"binary_data_size": size})
    status, answer = await served.post(INFER, head + data, Inference_Header_Content_Length=str(len(head)))
    assert status == 400
    assert sentence in answer["error"]


@pytest.mark.parametrize(
    ("outputs", "sentence"),
    [
        ([{"name": "nope"}], "The model has no output 'nope'; its outputs are scores"),
        ([{"name": "scores", "parameters": {"classification": 3}}], "asks for classification, an extension"),
        ([{"name": "scores", "parameters": {"binary_data": "yes"}}], "binary_data must be true or false"),
        ("scores", "'outputs' must be a list"),
    ],
)
async def test_outputs_that_cannot_be_sent_are_refused(served: Any, outputs: Any, sentence: str) -> None:
    status, answer = await served.post(INFER, json.dumps(json.loads(body()) | {"outputs": outputs}).encode())
    assert status == 400
    assert sentence in answer["error"]


@pytest.mark.parametrize(
    ("path", "sentence"),
    [
        ("/v2/models/other", "There is no model 'other' here; there are: small."),
        ("/v2/models/small/versions/9", "The model 'small' has no version '9'; it has: v1."),
        ("/v3", "There is nothing at /v3"),
    ],
)
async def test_what_is_not_there_is_404(served: Any, path: str, sentence: str) -> None:
    status, answer = await served.get(path)
    assert status == 404
    assert sentence in answer["error"]


async def test_the_wrong_method_is_405_and_names_the_right_one(served: Any) -> None:
    status, answer = await served.get(INFER)
    assert status == 405
    assert answer["error"] == f"{INFER} does not take GET: use POST."


async def test_a_body_that_hides_its_size_is_refused_too(served: Any) -> None:
    async def chunks() -> Any:
        for _ in range(10):
            yield b" " * 1000

    async with served.client.post(INFER, data=chunks()) as answer:
        assert answer.status == 413
        assert "got more than that" in (await answer.json())["error"]


async def test_a_full_queue_is_503_with_retry_after(served: Any) -> None:
    served.dataplane._dispatcher._accepted = 2
    async with served.client.post(INFER, data=body()) as answer:
        assert answer.status == 503
        assert answer.headers["Retry-After"] == "1"
        assert "2 requests run or wait, and no more may" in (await answer.json())["error"]


async def test_metrics_count_requests_by_model_and_code_and_no_unknown_names(served: Any) -> None:
    await served.post(INFER, body())
    await served.post(INFER, b"{")
    await served.post("/v2/models/made-up/infer", body())
    async with served.client.get("/metrics") as answer:
        text = await answer.text()
    for code in (200, 400):
        assert re.search(rf'enginewright_requests_total\{{code="{code}",model="small"\}} 1.0', text)
    assert 'enginewright_requests_total{code="404",model=""} 1.0' in text
    assert 'enginewright_inference_duration_seconds_count{model="small"} 1.0' in text
    assert 'enginewright_queue_duration_seconds_count{model="small"} 1.0' in text
    assert "enginewright_requests_in_flight 0.0" in text
    assert "made-up" not in text


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
async def test_a_body_that_is_not_compressed_as_it_says_is_refused(served: Any, encoding: str) -> None:
    status, answer = await served.post(INFER, b"\xffnot compressed", Content_Encoding=encoding)
    assert status == 400
    assert "cannot be read" in answer["error"]


async def test_a_small_body_that_unpacks_to_a_huge_one_is_refused(served: Any) -> None:
    status, answer = await served.post(INFER, gzip.compress(b" " * 3_000_000), Content_Encoding="gzip")
    assert status == 413
    assert "The body may have 4096 bytes" in answer["error"]


async def test_a_caller_that_goes_away_in_the_middle_of_a_body_does_no_harm(served: Any) -> None:
    _, writer = await asyncio.open_connection(served.client.host, served.client.port)
    writer.write(f"POST {INFER} HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nhalf".encode())
    await writer.drain()
    async with asyncio.timeout(120):
        while not served.rest.in_flight:
            await asyncio.sleep(0.01)
        writer.close()
        while served.rest.in_flight:
            await asyncio.sleep(0.01)
    assert (await served.post(INFER, body()))[0] == 200


async def test_what_is_not_http_is_refused(served: Any) -> None:
    reader, writer = await asyncio.open_connection(served.client.host, served.client.port)
    writer.write(b"POST /v2 HTTP/1.1\r\nHost: x\r\nContent-Length: -5\r\n\r\n")
    assert b" 400 " in await reader.readline()
    writer.close()
    assert (await served.post(INFER, body()))[0] == 200
