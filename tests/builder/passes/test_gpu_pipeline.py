"""The law for the GPU's passes on whole networks, thin ones with random weights: outputs before are outputs after."""

import onnx_ir as ir
import pytest
from networks.bert import bert
from networks.inception_v3 import inception_v3
from networks.resnet import resnet50
from networks.vgg19 import vgg19

from enginewright_builder import passes
from enginewright_builder.passes import GPU_PIPELINE, gpu_pipeline
from enginewright_builder.passes.base import PassReport
from enginewright_runtime.plan.recipe import Precision, PrecisionRule

NETWORKS = {
    "VGG19": lambda: vgg19(batch=1, size=64, thin=8),
    "ResNet-50": lambda: resnet50(batch=2, size=64, thin=8),
    "ResNet-50 as Caffe has it": lambda: resnet50(batch=1, size=64, thin=8, caffe=True),
    "Inception V3": lambda: inception_v3(batch=1, size=75, thin=8),
    "BERT": lambda: bert(2, batch=2, tokens=16, width=32, heads=4),
}


class Whole:
    """A pipeline as if it were one pass."""

    name, reason = "whole", "a test"

    def __init__(self, pipeline):
        self.pipeline = pipeline

    def apply(self, network):
        self.reports = passes.run(network, self.pipeline)
        return PassReport(name=self.name, changed=1)


@pytest.mark.parametrize("name", NETWORKS)
def test_the_exact_passes_keep_every_output(applied, name):
    applied(Whole(gpu_pipeline(Precision.FP32)), NETWORKS[name]())


@pytest.mark.parametrize("name", NETWORKS)
def test_in_float16_outputs_stay_within_a_hundredth_of_their_range(near, name):
    near(Whole(gpu_pipeline(Precision.FP16)), NETWORKS[name]())


def test_tf32_is_no_matter_of_passes():
    assert gpu_pipeline(Precision.TF32) == gpu_pipeline(Precision.FP32)


def test_a_rule_of_the_recipe_keeps_layers_wide(near):
    network = vgg19(batch=1, size=64, thin=8)
    rules = [PrecisionRule(layers="fc*", precision=Precision.FP32)]
    near(Whole(gpu_pipeline(Precision.FP16, rules)), network)
    assert [n.inputs[1].dtype for n in network.layers() if n.op_type.endswith("Gemm")] == [ir.DataType.FLOAT] * 3


@pytest.mark.parametrize("pipeline", [GPU_PIPELINE, gpu_pipeline(Precision.FP16)])
def test_every_pass_has_a_name_and_a_reason(pipeline):
    assert all(each.name and each.reason for each in pipeline)
