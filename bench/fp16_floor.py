"""What float16 by itself costs Inception V3, whoever runs it: one rounding a layer, emulated in float32.

usage: fp16_floor.py [--pictures 512] [--device cpu]

The benchmark's network (peers/networks.py), batch norms folded into the weights. Sums are float32's; rounded are, by
name, weights (each to nearest; "balanced" as the builder rounds them), what each layer gives, the picture, and what
pools give. Errors are of the output's range, as the benchmark takes them, and the root of the mean square over the four
outputs that were fitted, which luck moves less.
"""

import argparse
import copy
from typing import Any

import onnx_ir as ir
import torch
from peers import networks
from torch.nn.utils.fusion import fuse_conv_bn_eval
from torchvision.models.inception import BasicConv2d

from enginewright_builder.passes.balanced_rounding import balanced

BATCH = 8
PARTS = ("weights", "layers", "picture", "pools")
BALANCED = ("balanced", "layers", "picture", "pools")


def half(value: torch.Tensor) -> torch.Tensor:
    return value.half().float()


class Layer(torch.nn.Module):
    """A convolution with its norm and Relu; `rounding` names what is rounded."""

    def __init__(self, given: BasicConv2d, rounding: set[str]) -> None:
        super().__init__()
        self.wide = fuse_conv_bn_eval(given.conv, given.bn)
        self.narrow, self.balanced = copy.deepcopy(self.wide), copy.deepcopy(self.wide)
        self.narrow.weight.data = half(self.wide.weight.data)
        made = balanced(self.wide.weight.detach().cpu().numpy(), ir.DataType.FLOAT16, "Conv")
        self.balanced.weight.data = torch.from_numpy(made).float().to(self.wide.weight.device)
        self.rounding = rounding

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        used = {"weights": self.narrow, "balanced": self.balanced}
        made = torch.relu(next((used[name] for name in used if name in self.rounding), self.wide)(x))
        return half(made) if "layers" in self.rounding else made


def emulated(model: torch.nn.Module, rounding: set[str]) -> torch.nn.Module:
    """The model with its convolutions as Layers."""
    model = copy.deepcopy(model)
    found = [(module, name) for module in model.modules() for name, each in module.named_children()
             if isinstance(each, BasicConv2d)]  # fmt: skip
    for module, name in found:
        setattr(module, name, Layer(getattr(module, name), rounding))
    model.register_forward_pre_hook(lambda _m, given: half(given[0]) if "picture" in rounding else None)
    model.avgpool.register_forward_hook(lambda _m, _g, made: half(made) if "pools" in rounding else None)
    return model


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=int, default=networks.PICTURES, help="that the network is fitted to")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    options = parser.parse_args()
    subject = networks.subject("inception_v3", BATCH, options.device, options.pictures)
    rounding: set[str] = set()
    model, pool = emulated(subject.model, rounding), torch.nn.functional.avg_pool2d

    def average(*given: Any, **more: Any) -> torch.Tensor:
        made = pool(*given, **more)
        return half(made) if "pools" in rounding else made

    torch.nn.functional.avg_pool2d = average  # the branches of its blocks call it by this name
    print(f"| rounded | batch 1 | batch {BATCH} | root mean square |\n|---|---|---|---|")
    alone = ((part,) for part in (*PARTS, "balanced"))
    all_but = (tuple(p for p in parts if p != part) for parts in (PARTS, BALANCED) for part in parts)
    for parts in (PARTS, BALANCED, *alone, *dict.fromkeys(all_but)):
        rounding.clear()
        rounding.update(parts)
        with torch.no_grad(), networks.exact():
            error = (model(subject.inputs) - subject.right).abs() / subject.right.abs().max()
        spread = float((error[:, : networks.PHOTOGRAPHS] ** 2).mean().sqrt())
        print(f"| {', '.join(parts)} | {error[0].max():.2%} | {error.max():.2%} | {spread:.2%} |", flush=True)


if __name__ == "__main__":
    main()
