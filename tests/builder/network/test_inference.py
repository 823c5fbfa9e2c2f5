"""The process beside the builder's."""

from enginewright_builder.network import inference


def test_a_child_that_was_begun_early_is_the_one_that_is_asked() -> None:
    inference.end()
    inference.begin()
    begun = dict(inference._children)
    inference.infer(b"", elements=False)
    assert begun
    assert inference._children == begun
