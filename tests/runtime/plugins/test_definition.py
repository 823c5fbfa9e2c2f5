"""A plugin is held to what it says of itself."""

import numpy as np
import pytest

from enginewright_runtime.plugins import PluginError, TensorSpec, loading, plugin

SPEC = TensorSpec("float32", (2, 3))
X = np.ones((2, 3), np.float32)


def make(reference, **options):
    return plugin("com.example.Test", **options)(reference)


def test_a_reference_gives_what_the_rule_says():
    twice = make(lambda x: (x, x.sum(1)), rule=lambda x: [x, TensorSpec("float32", x.shape[:1])])
    first, second = twice.run([X], {})
    np.testing.assert_array_equal(first, X)
    np.testing.assert_array_equal(second, [3, 3])


@pytest.mark.parametrize(
    ("made", "sentence"),
    [
        (make(lambda x: x.astype(float)), "gave float64 [2, 3], and its rule says float32 [2, 3]."),
        (make(lambda x: x[0]), "gave float32 [3], and its rule says float32 [2, 3]."),
        (make(lambda x: 1 / 0), "The plugin com.example.Test failed: ZeroDivisionError: division by zero."),
        (
            make(lambda x: x, rule=lambda x: x.nothing),
            "The rule of the plugin com.example.Test fails for float32 [2, 3]",
        ),
        (make(lambda x: x, rule=lambda x: []), "says [] for float32 [2, 3]"),
        (make(lambda x: x, rule=lambda x: TensorSpec("float", (1,))), "TensorSpec(dtype='float', shape=(1,))"),
    ],
)
def test_what_breaks_a_promise_is_refused(made, sentence):
    with pytest.raises(PluginError) as caught:
        made.run([X], {})
    assert sentence in caught.value.message


def test_attributes_are_those_that_were_declared():
    made = make(lambda x, **_: x, attributes={"alpha": 0.5, "axes": (1, 2), "mode": "a"})
    assert made.complete({"alpha": 2, "axes": [3]}) == {"alpha": 2.0, "axes": [3], "mode": "a"}
    with pytest.raises(PluginError, match="has no attribute 'beta'; its attributes are alpha, axes, mode"):
        made.complete({"beta": 1})
    with pytest.raises(PluginError, match=r"'mode' of the plugin com\.example\.Test must be as 'a', got 3"):
        made.complete({"mode": 3})


@pytest.mark.parametrize("name", ["Swish", "ai.onnx.Relu", "com.microsoft.Gelu", "com.example.", "a b.C"])
def test_a_name_is_a_domain_of_ones_own(name):
    with pytest.raises(PluginError, match="is a domain of your own and an operator"):
        plugin(name)


@pytest.mark.parametrize(
    ("source", "sentence"),
    [
        (b"x = (", "The plugin p.py does not load: SyntaxError"),
        (b"raise RuntimeError('no')", "The plugin p.py does not load: RuntimeError: no."),
        (b"x = 1", "The plugin p.py defines no plugin: decorate a function with"),
        (b"\x00\xff", "The plugin p.py does not load: "),
    ],
)
def test_a_module_that_is_none_is_named(source, sentence):
    with pytest.raises(PluginError) as caught:
        loading.load(source, "The plugin p.py")
    assert sentence in caught.value.message
