"""Writes goldens/: small frozen graphs made by TensorFlow, with inputs and what TensorFlow makes of them.

usage: python make_goldens.py [WORD ...]     needs TensorFlow (pip install 'enginewright[oracles]')

Each file holds the GraphDef's bytes (`graph`), inputs (`in:x`) and outputs (`out:y`). Sizes are odd, so that nothing
passes by symmetry.
"""

import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from golden_cases import CASES
from golden_networks import FROZEN, RANDOM, nn, v1, weights
from tensorflow.core.protobuf import saved_model_pb2

HERE = Path(__file__).parent / "goldens"


def make(name: str) -> None:
    """Build one graph, run it, write its file."""
    compute, given = CASES[name]
    arrays = [
        each if isinstance(each, np.ndarray) else RANDOM.standard_normal(each).astype(np.float32) for each in given
    ]
    graph = tf.Graph()
    with graph.as_default():
        inputs = [
            v1.placeholder(array.dtype, [None, *array.shape[1:]] if array.ndim > 2 else array.shape, f"x{index}")
            for index, array in enumerate(arrays)
        ]
        made = compute(*inputs)
        outputs = [
            tf.identity(each, f"y{index}")
            for index, each in enumerate(made if isinstance(made, list | tuple) else [made])
        ]
        with v1.Session() as session:
            results = session.run(outputs, dict(zip(inputs, arrays, strict=True)))
    save(name, graph.as_graph_def(), arrays, results)


def freeze(name: str) -> None:
    """Freeze one Keras layer, run it, write its file."""
    array = RANDOM.standard_normal((2, 4, 3)).astype(np.float32)
    frozen = FROZEN[name]()
    save(name, frozen.graph.as_graph_def(), [array], [frozen(tf.constant(array))[0].numpy()])


class Pure(tf.Module):  # type: ignore[misc]  # TensorFlow publishes no types
    """A module of constants alone, whose function calls another one."""

    @tf.function
    def inner(self, x: Any) -> Any:
        return tf.cond(tf.reduce_sum(x) > 0.0, lambda: nn.relu(x), lambda: x * 2.0)

    @tf.function(input_signature=[tf.TensorSpec([None, 3], tf.float32)])
    def serve(self, x0: Any) -> Any:
        y = self.inner(tf.matmul(x0, weights(3, 4)))
        return {"y0": nn.softmax(y), "y1": y}


def save_model(name: str) -> None:
    """Export a SavedModel without variables; its file holds all that it is."""
    module, array = Pure(), RANDOM.standard_normal((2, 3)).astype(np.float32)
    with tempfile.TemporaryDirectory() as folder:
        tf.saved_model.save(module, folder, signatures=module.serve)
        saved = saved_model_pb2.SavedModel.FromString((Path(folder) / "saved_model.pb").read_bytes())
        results = tf.saved_model.load(folder).signatures["serving_default"](tf.constant(array))
    saved.meta_graphs[0].ClearField("object_graph_def")
    save(name, saved, [array], [results[key].numpy() for key in ("y0", "y1")])


def save(name: str, graph: Any, arrays: list[Any], results: list[Any]) -> None:
    content: dict[str, Any] = {"graph": np.frombuffer(graph.SerializeToString(), np.uint8)}
    content |= {f"in:x{index}": array for index, array in enumerate(arrays)}
    content |= {f"out:y{index}": array for index, array in enumerate(results)}
    np.savez_compressed(HERE / f"{name}.npz", **content)


if __name__ == "__main__":
    HERE.mkdir(exist_ok=True)
    for write, cases in ((make, CASES), (freeze, FROZEN), (save_model, ["saved_model"])):
        for case in cases:
            if len(sys.argv) == 1 or any(word in case for word in sys.argv[1:]):
                write(case)
