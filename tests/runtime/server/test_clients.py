"""The protocol's own client against a served process, for every datatype, plain and with binary data."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
import tritonclient.http as triton
from onnx import TensorProto

DTYPES: list[tuple[str, int, Any]] = [
    ("BOOL", TensorProto.BOOL, np.bool_),
    ("UINT8", TensorProto.UINT8, np.uint8),
    ("UINT16", TensorProto.UINT16, np.uint16),
    ("UINT32", TensorProto.UINT32, np.uint32),
    ("UINT64", TensorProto.UINT64, np.uint64),
    ("INT8", TensorProto.INT8, np.int8),
    ("INT16", TensorProto.INT16, np.int16),
    ("INT32", TensorProto.INT32, np.int32),
    ("INT64", TensorProto.INT64, np.int64),
    ("FP16", TensorProto.FLOAT16, np.float16),
    ("BF16", TensorProto.BFLOAT16, ml_dtypes.bfloat16),
    ("FP32", TensorProto.FLOAT, np.float32),
    ("FP64", TensorProto.DOUBLE, np.float64),
    ("BYTES", TensorProto.STRING, np.object_),
]


@pytest.fixture
def client(serve: Any, make_plan: Callable[..., Path], models: Any) -> Any:
    """A client of a server with an identity model for each datatype, and `small`."""
    plans = [f"small={make_plan(models.small(), name='small')}"]
    for name, code, _ in DTYPES:
        model = models.one_node("Identity", {"x": (code, [2, 2])}, {"y": (code, [2, 2])})
        plans.append(str(make_plan(model, name=name)))
    made = triton.InferenceServerClient(serve(*plans, "--drain-delay", "0").url.removeprefix("http://"))
    yield made
    made.close()


def value(name: str, dtype: Any) -> np.ndarray[Any, Any]:
    if name == "BYTES":
        return np.array([["a", "é"], ["", "x" * 300]], np.object_)
    return np.array([[0, 1], [1, 0]]).astype(dtype)


def test_every_datatype_goes_there_and_back(client: Any) -> None:
    for name, _, dtype in DTYPES:
        sent = value(name, dtype)
        for binary in (True, False):
            if not binary and name in ("FP16", "BF16"):
                continue
            tensor = triton.InferInput("x", [2, 2], name)
            tensor.set_data_from_numpy(sent, binary_data=binary)
            wanted = [triton.InferRequestedOutput("y", binary_data=binary)]
            got = client.infer(name, [tensor], outputs=wanted, request_id="mine")
            assert got.get_response()["id"] == "mine"
            answer = got.as_numpy("y")
            if name == "BYTES":
                texts = [each.decode() if isinstance(each, bytes) else each for each in answer.reshape(-1)]
                assert texts == sent.reshape(-1).tolist()
            else:
                np.testing.assert_array_equal(answer.astype(sent.dtype), sent, err_msg=name)


def test_health_metadata_versions_and_index_as_the_client_asks(client: Any) -> None:
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("small")
    (version,) = client.get_model_metadata("small")["versions"]
    assert client.is_model_ready("small", version)
    assert client.get_server_metadata()["name"] == "enginewright"
    assert client.get_model_metadata("small")["parameters"]["digest"].startswith(version)
    assert {"small", "FP32"} <= {model["name"] for model in client.get_model_repository_index()}


def test_refusals_reach_the_client_as_their_sentence(client: Any) -> None:
    tensor = triton.InferInput("x", [3, 4], "FP32")
    tensor.set_data_from_numpy(np.ones((3, 4), np.float32))
    with pytest.raises(triton.InferenceServerException, match="No schedule of the plan takes these shapes"):
        client.infer("small", [tensor])
    with pytest.raises(triton.InferenceServerException, match="There is no model 'other' here"):
        client.infer("other", [tensor])


def test_compressed_requests_are_read(client: Any) -> None:
    tensor = triton.InferInput("x", [2, 4], "FP32")
    tensor.set_data_from_numpy(np.ones((2, 4), np.float32))
    for algorithm in ("gzip", "deflate"):
        got = client.infer("small", [tensor], request_compression_algorithm=algorithm)
        assert got.as_numpy("scores").tolist() == [[0, 2, 6]] * 2
