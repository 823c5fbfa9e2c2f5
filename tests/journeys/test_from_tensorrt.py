"""docs/from-tensorrt.md: every block of ours runs, in the page's order, on a frozen graph with Keras's VGG19 layers."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from enginewright_builder.importers.tensorflow import schema

PAGE = Path(__file__).resolve().parents[2] / "docs" / "from-tensorrt.md"
THIN, SIZE = 16, 32  # a sixteenth of the widths, so that the test is quick
BLOCKS = ((64, 2), (128, 2), (256, 4), (512, 4), (512, 4))


class Frozen:
    """Writes a GraphDef as Keras's layers come out of freezing."""

    def __init__(self):
        self.graph, self.random = schema.GraphDef(), np.random.default_rng(4)
        node = self.graph.node.add(name="input_1", op="Placeholder")
        node.attr["dtype"].type = 1
        for size in (-1, SIZE, SIZE, 3):
            node.attr["shape"].shape.dim.add(size=size)

    def constant(self, name, array):
        node = self.graph.node.add(name=name, op="Const")
        node.attr["dtype"].type = 1 if array.dtype == np.float32 else 3
        tensor = node.attr["value"].tensor
        tensor.dtype = node.attr["dtype"].type
        for size in array.shape:
            tensor.tensor_shape.dim.add(size=size)
        tensor.tensor_content = array.tobytes()
        return name

    def add(self, name, op, *inputs):
        node = self.graph.node.add(name=name, op=op, input=inputs)
        node.attr["T"].type = 1
        return node

    def layer(self, name, x, kernel_shape, op):
        kernel = self.random.standard_normal(kernel_shape) * np.sqrt(2 / np.prod(kernel_shape[:-1]))
        self.constant(f"{name}/kernel", kernel.astype(np.float32))
        self.constant(f"{name}/bias", np.zeros(kernel_shape[-1], np.float32))
        node = self.add(f"{name}/{op}", op, x, f"{name}/kernel")
        self.add(f"{name}/BiasAdd", "BiasAdd", f"{name}/{op}", f"{name}/bias")
        return node


def vgg19():
    frozen, x, channels = Frozen(), "input_1", 3
    for block, (maps, count) in enumerate(BLOCKS, start=1):
        for number in range(1, count + 1):
            name = f"block{block}_conv{number}"
            node = frozen.layer(name, x, (3, 3, channels, maps // THIN), "Conv2D")
            node.attr["strides"].list.i.extend([1, 1, 1, 1])
            node.attr["padding"].s = b"SAME"
            frozen.add(f"{name}/Relu", "Relu", f"{name}/BiasAdd")
            x, channels = f"{name}/Relu", maps // THIN
        pool = frozen.add(f"block{block}_pool/MaxPool", "MaxPool", x)
        for key in ("ksize", "strides"):
            pool.attr[key].list.i.extend([1, 2, 2, 1])
        pool.attr["padding"].s = b"VALID"
        x = pool.name
    frozen.add(
        "flatten_1/Reshape", "Reshape", x, frozen.constant("flatten_1/shape", np.array([-1, channels], np.int32))
    )
    x = "flatten_1/Reshape"
    for name, outputs in (("fc1", 256), ("dense_1", 256), ("dense_2", 64)):
        frozen.layer(name, x, (channels, outputs), "MatMul")
        x = frozen.add(f"{name}/{'Softmax' if name == 'dense_2' else 'Relu'}",
                       "Softmax" if name == "dense_2" else "Relu", f"{name}/BiasAdd").name  # fmt: skip
        channels = outputs
    return frozen.graph.SerializeToString()


def blocks() -> list[tuple[str, str]]:
    """The page's blocks that are run: (language, code)."""
    return re.findall(r"```(bash|python)\n(.*?)```", PAGE.read_text(), flags=re.DOTALL)


@pytest.fixture(scope="module")
def said(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """What each block prints, run in the page's order in one folder."""
    folder = tmp_path_factory.mktemp("page")
    (folder / "keras_vgg19_frozen_graph.pb").write_bytes(vgg19())
    np.save(folder / "image.npy", np.random.default_rng(1).standard_normal((1, SIZE, SIZE, 3)).astype(np.float32))
    heard = []
    for language, code in blocks():
        command = [sys.executable, "-c", code] if language == "python" else ["bash", "-ec", code]
        path = f"{Path(sys.executable).parent}:/usr/bin:/bin"
        done = subprocess.run(command, cwd=folder, env={"PATH": path}, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{code}\n{done.stderr}"
        heard.append(done.stdout)
    return heard


def test_every_block_of_the_page_runs(said: list[str]) -> None:
    assert len(said) == 5


def test_a_frozen_graph_is_a_network_without_tensorflow(said: list[str]) -> None:
    assert said[0] == "16 ['input_1']\n"


def test_a_keras_network_answers_by_its_postprocessor(said: list[str]) -> None:
    assert re.fullmatch(r"\[\d+\]\n", said[3])


def test_a_tensor_knows_its_shape(said: list[str]) -> None:
    assert said[4] == "(20, 12, 12)\n"
