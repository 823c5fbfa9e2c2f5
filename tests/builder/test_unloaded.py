"""What onnx-ir imports and no build uses: not loaded by importing the builder, and there for whoever wants it."""

import subprocess
import sys

import pytest

READING = """
import sys
from pathlib import Path
import onnx
from onnx import TensorProto, helper
from enginewright_builder import build, passes
from enginewright_builder.importers import from_onnx
from enginewright_builder.network import specialize

x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 3]) for name in "xy")
graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", [x], [y])
onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8), sys.argv[1])
passes.run(specialize.with_shapes(from_onnx.load(Path(sys.argv[1])), {"x": (2, 3)}), passes.PIPELINE)
"""
WORDS = {
    "nobody loads sympy": "assert 'sympy.core' not in sys.modules",
    "a dimension may be reckoned with": "import onnx_ir; assert str(onnx_ir.SymbolicDim('n') + 1) == 'n + 1'",
    "sympy may be imported": "from sympy.core.symbol import Symbol; import sympy; assert sympy.Symbol is Symbol",
    "what sympy has not it has not": "import sympy; assert not hasattr(sympy, 'nothing') and sympy.__version__",
}


@pytest.mark.parametrize("word", WORDS)
def test_a_network_with_a_free_dimension_is_read_without_sympy(word: str, tmp_path: object) -> None:
    program = f"{READING}\n{WORDS[word]}"
    done = subprocess.run([sys.executable, "-c", program, f"{tmp_path}/x.onnx"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_a_part_of_sympy_may_be_imported_before_sympy() -> None:
    program = "import enginewright_builder; from sympy.core.expr import Expr; import sympy.printing; sympy.Expr is Expr"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_a_build_imports_no_importer_and_nothing_that_draws_before_it_needs_it() -> None:
    program = """
import sys
from enginewright_builder import build, command_line, progress
loaded = [name for name in sys.modules if name.startswith(("rich", "enginewright_builder.importers.caffe",
                                                           "enginewright_builder.importers.tensorflow"))]
assert not loaded, loaded
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
