"""Small Caffe models, written as Caffe writes them: the text of a prototxt, and the bytes of a caffemodel."""

import struct
from collections.abc import Mapping, Sequence

import numpy as np

Arrays = Mapping[str, Sequence[np.ndarray]]
SEED = 7


def varint(number: int) -> bytes:
    more, low = divmod(number, 128)
    return bytes([low]) if not more else bytes([low | 128]) + varint(more)


def field(number: int, payload: bytes) -> bytes:
    return varint(number << 3 | 2) + varint(len(payload)) + payload


def blob(array: np.ndarray, form: str = "float") -> bytes:
    """A BlobProto: as `float` or `double` numbers, as NVIDIA's `half`, or as `old` numbers in four dimensions."""
    shape = field(7, field(1, b"".join(map(varint, array.shape))))
    match form:
        case "double":
            return shape + field(8, array.astype("<f8").tobytes())
        case "half":
            return shape + varint(10 << 3) + varint(2) + field(12, array.astype("<f2").tobytes())
        case "old":
            four = (1,) * (4 - array.ndim) + array.shape
            header = b"".join(varint(number << 3) + varint(size) for number, size in enumerate(four, 1))
            return header + field(5, array.astype("<f4").tobytes())
    return shape + field(5, array.astype("<f4").tobytes())


def caffemodel(arrays: Arrays, *, form: str = "float", version: int = 2) -> bytes:
    """A NetParameter with these layers' blobs, as `layer` (2) or as the older `layers` (1)."""
    layers, name_field, blobs_field = (100, 1, 7) if version == 2 else (2, 4, 6)
    return b"".join(
        field(
            layers,
            field(name_field, name.encode())
            + field(3, b"ignored")
            + varint(10 << 3 | 5)
            + struct.pack("<f", 1.0)
            + b"".join(field(blobs_field, blob(array, form)) for array in each),
        )
        for name, each in arrays.items()
    )


def header(*shapes: Sequence[int]) -> str:
    """The inputs x, x1, … of these shapes."""
    names = ["x", *(f"x{number}" for number in range(1, len(shapes)))]
    return "".join(
        f'input: "{name}" input_shape {{ {" ".join(f"dim: {size}" for size in shape)} }}\n'
        for name, shape in zip(names, shapes, strict=True)
    )


def layer(kind: str, parameters: str = "", *, name: str = "y", bottoms: str = "x", tops: str = "y") -> str:
    wires = "".join(f' bottom: "{each}"' for each in bottoms.split())
    wires += "".join(f' top: "{each}"' for each in tops.split())
    return f'layer {{ name: "{name}" type: "{kind}"{wires} {parameters} }}\n'


def random(*shape: int, low: float = -1.0, high: float = 1.0) -> np.ndarray:
    return np.random.default_rng(SEED + sum(shape)).uniform(low, high, shape).astype(np.float32)
