"""Requests that people get wrong, to a real server over HTTP: a status, and a sentence that says what to do.

One server answers them all, and must still be well at the end: its fixture ends it and looks at its log.
"""

import http.client
import json
import struct
from typing import Any
from urllib.parse import urlsplit

import pytest

INFER = "/v2/models/good/infer"
LENGTH = "Inference-Header-Content-Length"
X = {"name": "x", "datatype": "FP32", "shape": [1, 4], "data": [1, 1, 1, 1]}
LIMIT = 4096  # bytes of a body, as the server was told


def ask(
    url: str, path: str, body: bytes, headers: dict[str, str] | None = None, method: str = "POST"
) -> tuple[int, Any]:
    """The status and the JSON object of an answer."""
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=120)
    try:
        connection.request(method, path, body, headers or {})
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())
    finally:
        connection.close()


def refusal(url: str, status: int, *parts: str, path: str = INFER, body: bytes = b"", **headers: str) -> None:
    """The request is refused with this status and one sentence that holds all parts; the server goes on answering."""
    got, answer = ask(url, path, body, {name.replace("_", "-"): value for name, value in headers.items()})
    assert got == status, answer
    (sentence,) = answer.values()
    assert list(answer) == ["error"]
    assert [part for part in parts if part not in sentence] == [], sentence
    assert sentence.endswith(".")
    assert "Traceback" not in sentence
    assert right(url)


def right(url: str) -> bool:
    """Whether a good request is answered rightly."""
    status, answer = ask(url, INFER, request())
    return status == 200 and answer["outputs"][0]["data"] == [4, 4, 4]


def request(**changes: Any) -> bytes:
    """A good request with some keys of its input changed."""
    return json.dumps({"inputs": [X | changes]}).encode()


def binary(size: int, data: bytes) -> tuple[bytes, str]:
    """A body of the binary tensor extension that claims `size` bytes, and the length of its JSON."""
    tensor = {"name": "x", "datatype": "FP32", "shape": [1, 4], "parameters": {"binary_data_size": size}}
    header = json.dumps({"inputs": [tensor]}).encode()
    return header + data, str(len(header))


@pytest.mark.parametrize("body", [b"", b"{", b'{"inputs": [}', b"\xff\xfe", b"[" * 2000, b'{"inputs": NaN}'], ids=repr)
def test_broken_json(server: str, body: bytes) -> None:
    refusal(server, 400, "JSON", body=body)


@pytest.mark.parametrize("body", [b"[]", b"{}", b'{"inputs": {}}', b'{"inputs": [1]}', b'{"inputs": []}'], ids=repr)
def test_json_of_another_form(server: str, body: bytes) -> None:
    refusal(server, 400, body=body)


def test_binary_data_of_another_size_than_its_shape(server: str) -> None:
    body, length = binary(8, struct.pack("<2f", 1, 1))
    refusal(server, 400, "'x'", "8", "16", body=body, Inference_Header_Content_Length=length)


@pytest.mark.parametrize("there", [0, 12, 20])
def test_binary_data_that_is_cut_or_too_long(server: str, there: int) -> None:
    body, length = binary(16, b"\0" * there)
    refusal(server, 400, "16" if there < 16 else "4", body=body, Inference_Header_Content_Length=length)


@pytest.mark.parametrize("length", ["-1", "many", "99999", "1.5"])
def test_a_header_length_that_is_none(server: str, length: str) -> None:
    refusal(server, 400, LENGTH, length, body=request(), Inference_Header_Content_Length=length)


def test_numbers_that_are_too_few_for_the_shape(server: str) -> None:
    refusal(server, 400, "'x'", "3", "4", body=request(data=[1, 1, 1]))


def test_a_huge_body(server: str) -> None:
    refusal(server, 413, f"{LIMIT} bytes", f"{LIMIT + 1} bytes", "send less", body=b" " * (LIMIT + 1))


def test_a_huge_body_that_does_not_say_its_size(server: str) -> None:
    connection = http.client.HTTPConnection(urlsplit(server).netloc, timeout=120)
    try:
        connection.request("POST", INFER, iter([b" " * LIMIT, b" "]), {}, encode_chunked=True)
        answer = connection.getresponse()
        said = json.loads(answer.read())["error"]
    finally:
        connection.close()
    assert answer.status == 413
    assert f"{LIMIT} bytes" in said
    assert right(server)


def test_a_body_that_unpacks_to_more_than_it_may_is_refused(server: str) -> None:
    import gzip

    body = gzip.compress(b" " * (50 << 20))
    assert len(body) > LIMIT  # so that it is refused by its own size; and a smaller one by what it unpacks to:
    refusal(server, 413, f"{LIMIT} bytes", body=body, Content_Encoding="gzip")
    refusal(server, 413, f"{LIMIT} bytes", body=gzip.compress(b" " * (1 << 20)), Content_Encoding="gzip")


def test_an_unknown_model_or_version(server: str) -> None:
    refusal(server, 404, "'cat'", "good", path="/v2/models/cat/infer", body=request())
    refusal(server, 404, "'9'", "good", path="/v2/models/good/versions/9/infer", body=request())
    refusal(server, 404, "/v3/models", "/v2", path="/v3/models", body=request())


@pytest.mark.parametrize(
    ("changes", "parts"),
    [
        ({"name": "image"}, ("no input 'image'", "inputs are x")),
        ({"datatype": "FP64"}, ("'x'", "FP32", "FP64")),
        ({"datatype": "FLOAT"}, ("'x'", "FLOAT", "FP32")),
        ({"shape": [1, 5], "data": [1] * 5}, ("[1, 5]", "[1, 4]", "--shape")),
        ({"shape": [-1, -4]}, ("'x'", "shape")),
        ({"shape": [1 << 40, 1 << 40]}, ("'x'", "4")),
        ({"data": ["a", "b", "c", "d"]}, ("'x'", "FP32")),
        ({"data": [1e300] * 4}, ("'x'",)),
    ],
    ids=str,
)
def test_a_tensor_that_does_not_fit(server: str, changes: dict[str, Any], parts: tuple[str, ...]) -> None:
    refusal(server, 400, *parts, body=request(**changes))


def test_an_unknown_output(server: str) -> None:
    body = json.dumps({"inputs": [X], "outputs": [{"name": "z"}]}).encode()
    refusal(server, 400, "'z'", "y", body=body)


def test_a_wrong_method_says_the_right_one(server: str) -> None:
    status, answer = ask(server, INFER, b"", method="GET")
    assert status == 405
    assert "POST" in answer["error"]
