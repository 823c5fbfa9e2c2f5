"""Caffe in: names, places and forms as Caffe has them, and one sentence for what does not hold together."""

import numpy as np
import pytest
from caffe_files import blob, caffemodel, field, header, layer, random

from enginewright_builder.importers import table
from enginewright_builder.importers.from_caffe import from_caffe
from enginewright_runtime.errors import ModelError, UnsupportedError, UsageError
from enginewright_runtime.plan.recipe import ModelFormat

SHAPE = (2, 4, 5, 6)
X = random(*SHAPE)
CONVOLUTION = layer("Convolution", "convolution_param { num_output: 3 kernel_size: 1 }")
BLOBS = {"y": [random(3, 4, 1, 1), random(3)]}


@pytest.fixture
def sentence(save):
    def said(text, arrays=None, kind=ModelError, **options):
        with pytest.raises(kind) as raised:
            from_caffe(*save(text, arrays), **options)
        told = str(raised.value)
        assert told.endswith(".")
        assert "\n" not in told
        return told

    return said


def test_the_table_reads_a_pair(save):
    prototxt, model = save(header(SHAPE) + CONVOLUTION, BLOBS)
    network = table.read(ModelFormat.CAFFE, model, companion=prototxt)
    assert [value.name for value in network.outputs] == ["y"]


def test_a_model_without_its_prototxt_asks_for_it(save):
    with pytest.raises(UsageError, match="needs its prototxt: give --prototxt"):
        table.read(ModelFormat.CAFFE, save(header(SHAPE) + CONVOLUTION, BLOBS)[1])


def test_a_prototxt_for_another_format_is_refused(save):
    prototxt, model = save(header(SHAPE) + CONVOLUTION, BLOBS)
    with pytest.raises(UsageError, match="is onnx, which has no prototxt"):
        table.read(ModelFormat.ONNX, model, companion=prototxt)


def test_layers_and_values_keep_caffes_names(save):
    text = header(SHAPE) + CONVOLUTION + layer("Softmax", bottoms="y", tops="prob", name="last")
    network = from_caffe(*save(text, BLOBS))
    assert [node.name for node in network.layers()] == ["y", "last"]
    assert [value.name for value in network.inputs] == ["x"]
    assert [value.name for value in network.outputs] == ["prob"]


def test_a_blob_that_is_changed_in_place_has_its_name_at_the_end(imported):
    text = header(SHAPE) + layer("TanH", tops="a", name="t") + layer("AbsVal", bottoms="a", tops="a", name="b")
    np.testing.assert_allclose(imported(text, feeds={"x": X})["a"], np.abs(np.tanh(X)), rtol=1e-5)


def test_an_input_that_is_changed_in_place_keeps_its_name(imported):
    text = header(SHAPE) + layer("AbsVal", tops="x", name="a") + layer("TanH")
    np.testing.assert_allclose(imported(text, feeds={"x": X})["y"], np.tanh(np.abs(X)), rtol=1e-5)


def test_an_output_that_is_only_passed_on_has_its_name(imported):
    got = imported(header(SHAPE) + layer("Split", tops="a b") + layer("Dropout", bottoms="a", tops="c"), feeds={"x": X})
    assert sorted(got) == ["b", "c"]
    np.testing.assert_array_equal(got["c"], X)


def test_what_is_silenced_is_no_output(save):
    text = header(SHAPE) + layer("Split", tops="a b") + layer("Silence", bottoms="a", tops="")
    assert [value.name for value in from_caffe(*save(text)).outputs] == ["b"]


def test_outputs_are_chosen_by_name_and_the_rest_is_not_built(save):
    text = header(SHAPE) + CONVOLUTION + layer("Mystery", bottoms="y", tops="z", name="m")
    network = from_caffe(*save(text, BLOBS), outputs=("y",))
    assert [value.name for value in network.outputs] == ["y"]
    assert len(list(network.layers())) == 1


def test_an_unknown_output_is_answered_with_near_names(sentence):
    told = sentence(header(SHAPE) + layer("TanH", tops="probs"), outputs=("prob",))
    assert "no layer with the output 'prob': name one of the 1 there are, for example 'probs'" in told


@pytest.mark.parametrize("form", ["float", "double", "old"])
@pytest.mark.parametrize("version", [1, 2])
def test_weights_are_read_in_every_form(imported, form, version):
    got = imported(header(SHAPE) + CONVOLUTION, BLOBS, {"x": X}, form=form, version=version)["y"]
    wanted = np.einsum("nchw,oc->nohw", X, BLOBS["y"][0][:, :, 0, 0]) + BLOBS["y"][1][:, None, None]
    np.testing.assert_allclose(got, wanted, rtol=1e-5, atol=1e-6)


def test_half_precision_weights_are_widened(imported):
    got = imported(header(SHAPE) + CONVOLUTION, BLOBS, {"x": X}, form="half")["y"]
    weights, bias = (array.astype(np.float16).astype(np.float32) for array in BLOBS["y"])
    wanted = np.einsum("nchw,oc->nohw", X, weights[:, :, 0, 0]) + bias[:, None, None]
    np.testing.assert_allclose(got, wanted, rtol=1e-5, atol=1e-6)


def test_a_layer_without_weights_keeps_what_its_filler_gives(imported):
    parameters = 'convolution_param { num_output: 4 group: 4 kernel_size: 4 stride: 2 pad: 1 bias_term: false weight_filler { type: "bilinear" } }'  # noqa: E501  # a line of a prototxt
    got = imported(header((1, 4, 3, 3)) + layer("Deconvolution", parameters), feeds={"x": np.ones((1, 4, 3, 3), "f4")})
    np.testing.assert_allclose(got["y"][0, :, 1:-1, 1:-1], 1, rtol=1e-6)


WRONG = {
    "no weights": (CONVOLUTION, "and the model holds 0 blobs for it: give the caffemodel that belongs"),
    "fillers that are chance": (
        layer("InnerProduct", 'inner_product_param { num_output: 3 weight_filler { type: "xavier" } }'),
        "Layer 'y' (InnerProduct) has no blobs in the model, and its filler 'xavier' is chance",
    ),
    "a blob that is read before it is made": (layer("TanH", bottoms="z"), "reads the blob 'z', which no layer before"),
    "a cycle": (
        layer("TanH", bottoms="b", tops="a", name="one") + layer("TanH", bottoms="a", tops="b", name="two"),
        "layer 'one' (TanH) reads the blob 'b', which no layer before it makes",
    ),
    "a blob that is made twice": (layer("TanH") + layer("AbsVal", name="z"), "makes the blob 'y', which there is"),
    "one top twice": (layer("Split", tops="y y"), "makes the blob 'y', which there is already"),
    "too few bottoms": (layer("Crop"), "it reads 1 blobs, wanted 2 to 2"),
    "too many tops": (layer("TanH", tops="a b"), "it makes 1 blobs, and names 2"),
    "a kernel of nothing": (layer("Convolution", "convolution_param { num_output: 3 }"), "it has kernel [0, 0]"),
    "groups that do not divide": (
        layer("Convolution", "convolution_param { num_output: 3 kernel_size: 1 group: 3 }"),
        "group 3, 4 channels and 3 outputs",
    ),
    "a kernel larger than the image": (
        layer("Pooling", "pooling_param { kernel_size: 9 }"),
        "its kernel of 9 is larger than the padded image of 5",
    ),
    "an output of nothing": (
        layer(
            "Deconvolution",
            "convolution_param { num_output: 3 kernel_size: 1 pad: 4000000000 weight_filler { std: 1 } bias_filler { std: 1 } }",  # noqa: E501  # a line of a prototxt
        ),
        "it would make a blob of the shape [2, 3, -7999999995",
    ),
    "an absurd tile": (layer("Tile", "tile_param { tiles: 2000000000 }"), "is not one of 1 to 2147483647 numbers"),
    "an absurd upsampling": (
        layer("Upsample", "upsample_param { upsample_h: 4000000000 upsample_w: 4000000000 }"),
        "which takes a pooling's mask",
    ),
    "an axis that there is not": (layer("Softmax", "softmax_param { axis: 7 }"), "it names the axis 7 of a blob of 4"),
    "a shape that does not fit": (layer("Reshape", "reshape_param { shape { dim: 7 dim: -1 } }"), "it makes [7, -1]"),
    "two free sizes": (layer("Reshape", "reshape_param { shape { dim: -1 dim: -1 } }"), "it makes [-1, -1]"),
    "a cut outside": (layer("Slice", "slice_param { slice_point: 9 }", tops="a b"), "it cuts the axis 1 of 4 at [9]"),
    "a permutation that is none": (layer("Permute", "permute_param { order: 1 order: 1 }"), "orders the axes of"),
    "a base that is none": (layer("Exp", "exp_param { base: -3 }"), "its base is -3.0"),
    "a detection of scalars": (
        layer("Reduction", name="r", tops="r")
        + layer("DetectionOutput", "detection_output_param { num_classes: 2 }", bottoms="r r r"),
        "it takes places and scores of [N, …] and priors of [1, 2, …], got a scalar",
    ),
    "sizes that do not go together": (layer("PriorBox", bottoms="x x"), "it has the smallest sizes [] and the"),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_what_does_not_hold_together_is_said_of_the_layer(sentence, name):
    text, told = WRONG[name]
    assert told in sentence(header(SHAPE) + text)


REFUSED = {
    "an unknown layer": (layer("DenseBlock", name="d"), "DenseBlock in layer 'd'"),
    "training": (layer("SoftmaxWithLoss", name="loss"), "SoftmaxWithLoss in layer 'loss'; give the deploy prototxt"),
    "an unknown field": (
        layer("PReLU", "prelu_param { channel_shared: true slope_max: 2 }"),
        "Layer 'y' (PReLU) cannot be built: its field 'slope_max' of PReLUParameter is not known here and could change",
    ),
    "an unknown parameter": (layer("TanH", "quantization_param { bits: 4 }"), "'quantization_param' of LayerParameter"),
    "stochastic pooling": (layer("Pooling", "pooling_param { pool: STOCHASTIC kernel_size: 2 }"), "STOCHASTIC pooling"),
    "the batch's own statistics": (
        layer("BatchNorm", "batch_norm_param { use_global_stats: false }"),
        "it normalizes by the batch's own statistics",
    ),
    "an empty window": (
        layer("Pooling", "pooling_param { kernel_size: 1 stride: 2 }", bottoms="x"),
        "its last window of 1 by 2 lies behind the image of 6 and holds nothing",
    ),
    "the form of 2013": ('layers { layer { name: "c" type: "conv" } bottom: "x" top: "y" }', "in the form of 2013"),
    "countless boxes": (
        layer("PriorBox", "prior_box_param { min_size: 1 }", bottoms="x1 x1"),
        "it makes 100000000 boxes, and at most",
    ),
    "millions of boxes": (  # what the fuzzer found: 800 MB of them from 600 bytes
        layer("PriorBox", "prior_box_param { min_size: 1 }", bottoms="x2 x1"),
        "it makes 3145728 boxes, and at most",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_not_built_is_refused_with_the_layer_and_the_reason(sentence, name):
    text, told = REFUSED[name]
    assert told in sentence(header(SHAPE, (1, 1, 10000, 10000), (1, 1, 3, 1 << 20)) + text, kind=UnsupportedError)


def test_an_old_flatten_has_no_parameters(imported):
    got = imported(header(SHAPE) + 'layers { name: "y" type: FLATTEN bottom: "x" top: "y" }', feeds={"x": X})
    np.testing.assert_array_equal(got["y"], X.reshape(2, 120))


def test_weights_of_another_network_are_refused(sentence):
    told = sentence(header(SHAPE) + CONVOLUTION, {"y": [random(3, 5, 1, 1), random(3)]})
    assert "takes the blob 0 in the shape [3, 4, 1, 1], and the model has [3, 5, 1, 1]" in told


def test_too_few_weights_are_refused(sentence):
    assert "and the model holds 1 blobs for it" in sentence(header(SHAPE) + CONVOLUTION, {"y": BLOBS["y"][:1]})


MODEL = caffemodel(BLOBS)


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b"", "is empty: got 0 bytes"),
        (b"hello, this is text\n" * 10, "is not a caffemodel, or is truncated or damaged"),
        (b"\x89HDF\r\n\x1a\n", "is a snapshot in HDF5"),
        (field(1, b"name"), "it holds no layer"),
        (MODEL[:-1], "a field of"),
        (MODEL + MODEL, "two layers with weights have the name 'y'"),
        (b"\xff" * 20, "a number does not end"),
        (field(100, field(1, b"y") + field(7, field(7, field(1, b"\x03")) + field(5, bytes(8)))), "holds 2 numbers"),
        (field(100, field(7, field(7, field(1, b"\x01" * 99)) + field(5, bytes(4)))), "more than 32 dimensions"),
        (b"\x0a\x00" * 1_000_001, "more than 1000000 fields"),
    ],
)
def test_a_file_that_is_no_caffemodel_says_so(save, data, told):
    prototxt, model = save(header(SHAPE) + CONVOLUTION, BLOBS)
    model.write_bytes(data)
    with pytest.raises(ModelError) as raised:
        from_caffe(prototxt, model)
    assert told in str(raised.value)


def test_a_blob_in_several_pieces_is_one(imported, save):
    weights, bias = BLOBS["y"]
    pieces = blob(weights).replace(field(5, weights.tobytes()), b"")
    pieces += b"".join(field(5, piece.tobytes()) for piece in np.split(weights.reshape(-1), 3))
    prototxt, model = save(header(SHAPE) + CONVOLUTION)
    model.write_bytes(field(100, field(1, b"y") + field(7, pieces) + field(7, blob(bias))))
    network = from_caffe(prototxt, model)
    held = next(value for value in network.graph.initializers.values() if value.name == "y/weights")
    np.testing.assert_array_equal(network.constant(held), weights)
