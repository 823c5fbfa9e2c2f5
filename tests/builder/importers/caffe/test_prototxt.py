"""A prototxt in its old and new forms, with the quirks of the text format, and what is no prototxt."""

import pytest
from caffe_files import header, layer

from enginewright_builder.importers.caffe import prototxt
from enginewright_runtime.errors import ModelError

BODY = layer("TanH")


@pytest.fixture
def read(tmp_path):
    def through(text):
        path = tmp_path / "deploy.prototxt"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return prototxt.read(path)

    return through


@pytest.mark.parametrize(
    "head",
    [
        'input: "x" input_shape { dim: 1 dim: 3 dim: 4 dim: 5 }',
        'input: "x" input_dim: 1 input_dim: 3 input_dim: 4 input_dim: 5',
        'input: "x" input_dim: [1, 3, 4, 5];',
        'layer { name: "x" type: "Input" top: "x" input_param { shape: { dim: 1 dim: 3 dim: 4 dim: 5 } } }',
        'layer < name: \'x\' type: "In" "put" top: "x" input_param: < shape < dim: [0x1, 03, 4, 5] > > >',
    ],
)
def test_inputs_are_read_in_every_form(read, head):
    assert read(head + "\n" + BODY).inputs == (("x", (1, 3, 4, 5)),)


def test_one_shape_serves_all_tops_of_an_input_layer(read):
    head = layer("Input", "input_param { shape { dim: 1 } }", bottoms="", tops="a b")
    assert read(head + BODY).inputs == (("a", (1,)), ("b", (1,)))


@pytest.mark.parametrize(
    ("enumerator", "kind"),
    [
        ("CONVOLUTION", "Convolution"),
        ("INNER_PRODUCT", "InnerProduct"),
        ("LRN", "LRN"),
        ("RELU", "ReLU"),
        ("TANH", "TanH"),
        ("ABSVAL", "AbsVal"),
        ("ARGMAX", "ArgMax"),
        ("BNLL", "BNLL"),
        ("SOFTMAX_LOSS", "SoftmaxWithLoss"),
        ("SIGMOID_CROSS_ENTROPY_LOSS", "SigmoidCrossEntropyLoss"),
        ("4", "Convolution"),
    ],
)
def test_the_older_layers_have_the_newer_types(read, enumerator, kind):
    text = f'layers {{ name: "y" type: {enumerator} bottom: "x" top: "y" blobs_lr: 1 weight_decay: 0 }}'
    assert read(header((1, 3)) + text).layers[0].type == kind


@pytest.mark.parametrize(
    ("rules", "kept"),
    [
        ("", True),
        ("include { phase: TEST }", True),
        ("include { phase: TRAIN }", False),
        ("exclude { phase: TRAIN }", True),
        ("exclude { phase: TEST }", False),
        ("include { phase: TRAIN } include { phase: TEST }", True),
        ('include { stage: "deploy" }', False),
        ('include { not_stage: "deploy" }', True),
        ("include { min_level: 1 }", False),
        ("include { max_level: 1 }", True),
    ],
)
def test_rules_keep_what_is_in_force_at_test_time(read, rules, kept):
    net = read(header((1, 3)) + layer("TanH", rules, name="ruled", tops="r") + BODY)
    assert ("ruled" in [each.name for each in net.layers]) is kept


def test_a_state_of_the_net_counts_in_rules(read):
    net = read('state { level: 2 stage: "a" }' + header((1, 3)) + layer("TanH", 'include { min_level: 2 stage: "a" }'))
    assert net.layers[0].name == "y"


def test_the_last_of_a_field_that_stands_twice_holds(read):
    net = read(header((1, 3)) + layer("Softmax", "softmax_param { axis: 0 } softmax_param { axis: 1 axis: 2 }"))
    assert net.layers[0].message.softmax_param.axis == 2


def test_comments_may_be_in_any_encoding_and_lines_end_anyhow(read):
    text = "\ufeff# caf\u00e9\r\n" + header((1, 3)).replace("\n", "\r\n") + BODY
    assert read(text.encode("utf-8") + b"# caf\xe9\n").layers[0].name == "y"


def test_what_is_not_read_is_told(read):
    net = read(header((1, 3)) + layer("TanH", "mystery_param { deep { a: 1 } }"))
    assert net.notes[0].startswith("the prototxt has fields that are not read, the first being at 2:")
    assert 'Message type "LayerParameter" has no field named "mystery_param"' in net.notes[0]


@pytest.mark.parametrize(
    "form", ["layer {{ {} }}", "layer: < {} >", "layer # {{\n : {{ {} # }}\n }}", "layer: [{{ {} }}]"]
)
def test_the_layer_that_has_an_unknown_field_is_known(read, form):
    fields = 'name: "strange }" type: "TanH" bottom: "x" top: "s" tanh_param { deep { a: 1 } }'
    net = read(header((1, 3)) + BODY + form.format(fields))
    assert {each.name: each.unread for each in net.layers if each.unread} == {"strange }": "'deep' of TanHParameter"}


def test_what_caffe_reads_for_training_alone_is_no_unknown_field(read):
    fields = "loss_param { ignore_label: 1 } transform_param { scale: 2 } param { share_mode: STRICT }"
    assert read(header((1, 3)) + layer("TanH", fields)).notes == ()


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "has no layer that is in force at test time"),
        (BODY, "has no input"),
        ("layer {", "is not one that Caffe reads"),
        ("\x00\x01\x02", "is not one that Caffe reads"),
        (header((1, 3)) + layer("Pooling", "pooling_param { pool: BEST }"), "has no value named BEST"),
        (header((1, 3)) + layer("Pooling", "pooling_param { kernel_size: -1 }"), "out of range"),
        ('input: "x"' + BODY, "has 1 inputs and 0 shapes"),
        (header((1, 3)) + BODY + 'layers { name: "z" type: TANH bottom: "x" top: "z" }', "mixes `layer` and the older"),
        ("layer {" * 5000, "it is nested too deeply"),
        ("layer { mystery {" + "a {" * 5000, "it is nested too deeply"),
        (layer("Input", bottoms="", tops="x") + BODY, "gives the Input layer 'y' 0 shapes for 1 tops"),
        (b"#" * (4 << 20) + b"##", "has more than 4194304 bytes"),
    ],
)
def test_what_is_no_prototxt_says_so(read, text, told):
    with pytest.raises(ModelError) as raised:
        read(text)
    assert told in str(raised.value)
    assert str(raised.value).endswith(".")
    assert "\n" not in str(raised.value)


def test_a_missing_prototxt_is_named(tmp_path):
    with pytest.raises(ModelError, match="does not exist: give the path of a deploy prototxt"):
        prototxt.read(tmp_path / "no.prototxt")
    with pytest.raises(ModelError, match="cannot be read: Is a directory"):
        prototxt.read(tmp_path)
