"""Open Inference Protocol v2 as a pure codec: bytes to tensors and back, nothing else.

Sources: https://github.com/kserve/open-inference-protocol (specification/protocol/inference_rest.md) and the binary
tensor data extension, https://github.com/triton-inference-server/server (docs/protocol/extension_binary_data.md).
What a request claims is compared with the bytes that are there before anything is made of it.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Never

import numpy as np

from enginewright_runtime.engine.values import TEXT, Array, dtype_of, to_bytes
from enginewright_runtime.errors import InputError, PlanError
from enginewright_runtime.plan.manifest import Binding
from enginewright_runtime.server import tensors

HEADER_LENGTH = "Inference-Header-Content-Length"
EXTENSIONS = ("binary_tensor_data",)


@dataclass(frozen=True, slots=True, kw_only=True)
class InferenceRequest:
    """A decoded request. `outputs` maps the wanted outputs' names to whether each goes out as binary data.

    Empty `outputs` asks for all of them, as `binary` says.
    """

    id: str
    inputs: Mapping[str, Array]
    outputs: Mapping[str, bool]
    binary: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class InferenceResponse:
    """An encoded response: `body` is the parts in order; `header_length` is that of the JSON if binary data follows."""

    body: Sequence[bytes | memoryview]
    header_length: int | None


def decode(body: bytes, header_length: str | None) -> InferenceRequest:
    """Read a request. `header_length` is the header of that name. Raises InputError."""
    at = len(body) if header_length is None else _header_length(header_length, len(body))
    request = _json(body if at == len(body) else body[:at])
    given = request.get("inputs")
    if not isinstance(given, list):
        raise InputError("The request has no list 'inputs' of the tensors to infer on.")
    inputs: dict[str, Array] = {}
    for tensor in given:
        name, parameters = _name(tensor, "input"), _parameters(tensor, "input")
        if name in inputs:
            raise InputError(f"The request has the input {name!r} twice.")
        if "shared_memory_region" in parameters:
            raise InputError(
                f"The input {name!r} lies in shared memory, which this server does not offer: send its data."
            )
        size = parameters.get("binary_data_size")
        if size is None:
            inputs[name] = tensors.from_json(tensor, name)
            continue
        inputs[name] = tensors.from_binary(tensor, name, _slice(body, at, size, name, header_length))
        at += size
    if at != len(body):
        raise InputError(
            f"The body has {len(body) - at} bytes after the last input: {HEADER_LENGTH} and the inputs' "
            "binary_data_size must add up to the whole body."
        )
    return _with_outputs(request, inputs)


def check_datatypes(request: InferenceRequest, bindings: Sequence[Binding]) -> None:
    """Raise InputError where an input's datatype is not its binding's, in the protocol's words."""
    for binding in bindings:
        array = request.inputs.get(binding.name)
        if array is not None and array.dtype != dtype_of(binding.dtype):
            got, wanted = tensors.datatype_of(array.dtype), tensors.DATATYPES[binding.dtype]
            raise InputError(f"The input {binding.name!r} must have the datatype {wanted}, got {got}.")
    names = [binding.name for binding in bindings]
    for name in request.inputs:
        if name not in names:
            raise InputError(f"The model has no input {name!r}; its inputs are {', '.join(names)}.")


def choose(request: InferenceRequest, bindings: Sequence[Binding]) -> Mapping[str, bool]:
    """Which outputs to send and whether as binary data. Raises InputError for one that the model does not have."""
    names = [binding.name for binding in bindings]
    if not request.outputs:
        return dict.fromkeys(names, request.binary)
    for name in request.outputs:
        if name not in names:
            raise InputError(f"The model has no output {name!r}; its outputs are {', '.join(names)}.")
    return request.outputs


def encode(
    outputs: Mapping[str, Array], chosen: Mapping[str, bool], *, model: str, version: str, request_id: str
) -> InferenceResponse:
    """Write a response with the chosen outputs. Raises InputError where JSON cannot hold one that was asked for so."""
    parts: list[bytes | memoryview] = []
    described: list[dict[str, Any]] = []
    for name, binary in chosen.items():
        array = outputs[name]
        tensor: dict[str, Any] = {"name": name, "shape": list(array.shape)}
        tensor["datatype"] = tensors.datatype_of(array.dtype)
        if binary:
            data = to_bytes(array) if array.dtype == TEXT else _memory(array)
            tensor["parameters"] = {"binary_data_size": memoryview(data).nbytes}
            parts.append(data)
        else:
            tensor["data"] = tensors.to_json(array, name)
        described.append(tensor)
    answer: dict[str, Any] = {"model_name": model, "model_version": version, "outputs": described}
    if request_id:
        answer["id"] = request_id
    text = json.dumps(answer, separators=(",", ":"), allow_nan=False).encode()
    return InferenceResponse(body=[text, *parts], header_length=len(text) if parts else None)


def metadata(bindings: Sequence[Binding]) -> list[dict[str, Any]]:
    """Inputs or outputs as the metadata endpoint tells them."""
    return [
        {
            "name": b.name,
            "datatype": tensors.DATATYPES[b.dtype],
            "shape": list(b.shape if b.shape is not None else [-1]),
        }
        for b in bindings
    ]


def require_servable(bindings: Sequence[Binding], *, plan: str) -> None:
    """Raise PlanError where the protocol has no word for a binding (sequences, optionals, 8-bit floats, complex)."""
    for binding in bindings:
        kind = binding.dtype if binding.container == "tensor" else binding.container
        if kind not in tensors.DATATYPES:
            raise PlanError(
                f"The plan {plan} cannot be served: {binding.name!r} is a {kind}, and the Open Inference Protocol has "
                f"no datatype for it; build it with one of {', '.join(tensors.DATATYPES)}."
            )


def _header_length(text: str, body: int) -> int:
    if not (text.isascii() and text.isdigit()) or len(text) > 19 or int(text) > body:
        raise InputError(
            f"The header {HEADER_LENGTH} must be a number of at most the body's {body} bytes, got {text!r:.40}."
        )
    return int(text)


def _json(text: bytes) -> dict[str, Any]:
    try:
        request = json.loads(text, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        reason = "it is nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise InputError(f"The request is not JSON: {reason}.") from error
    if not isinstance(request, dict):
        raise InputError(f"The request must be a JSON object, got {type(request).__name__}.")
    return request


def _no_constant(name: str) -> Never:
    raise ValueError(f"{name} is not a JSON number; send it as binary data")


def _slice(body: bytes, at: int, size: object, name: str, header_length: str | None) -> memoryview:
    if header_length is None:
        raise InputError(f"The input {name!r} has a binary_data_size, and the request has no header {HEADER_LENGTH}.")
    if not isinstance(size, int) or isinstance(size, bool) or size < 0:
        raise InputError(f"The binary_data_size of the input {name!r} must be a number of bytes, got {size!r:.40}.")
    if size > len(body) - at:
        raise InputError(
            f"The input {name!r} claims {size} bytes of binary data, and the body has {len(body) - at} left."
        )
    return memoryview(body)[at : at + size]


def _with_outputs(request: Mapping[str, Any], inputs: Mapping[str, Array]) -> InferenceRequest:
    identity = request.get("id", "")
    if not isinstance(identity, str):
        raise InputError(f"The request's id must be text, got {identity!r:.40}.")
    binary = _flag(_parameters(request, "request"), "binary_data_output", default=False)
    wanted = request.get("outputs", [])
    if not isinstance(wanted, list):
        raise InputError("The request's 'outputs' must be a list of the outputs to send.")
    outputs: dict[str, bool] = {}
    for output in wanted:
        name, parameters = _name(output, "output"), _parameters(output, "output")
        for unknown in ("classification", "shared_memory_region"):
            if unknown in parameters:
                raise InputError(
                    f"The output {name!r} asks for {unknown}, an extension that this server does not offer."
                )
        outputs[name] = _flag(parameters, "binary_data", default=binary)
    return InferenceRequest(id=identity, inputs=inputs, outputs=outputs, binary=binary)


def _name(tensor: object, kind: str) -> str:
    if not isinstance(tensor, dict) or not isinstance(tensor.get("name"), str):
        raise InputError(f"Each {kind} must be an object with a 'name', got {tensor!r:.60}.")
    return str(tensor["name"])


def _parameters(holder: Mapping[str, Any], kind: str) -> Mapping[str, Any]:
    parameters = holder.get("parameters", {})
    if not isinstance(parameters, dict):
        raise InputError(f"The parameters of the {kind} must be an object, got {parameters!r:.40}.")
    return parameters


def _flag(parameters: Mapping[str, Any], name: str, *, default: bool) -> bool:
    value = parameters.get(name, default)
    if not isinstance(value, bool):
        raise InputError(f"The parameter {name} must be true or false, got {value!r:.40}.")
    return value


def _memory(array: Array) -> memoryview:
    """The array's bytes without a copy, if they already lie in C order."""
    flat = np.ascontiguousarray(array).reshape(-1)
    return flat.view(np.uint8).data if flat.size else memoryview(b"")
