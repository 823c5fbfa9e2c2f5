"""The networks in torch, from their public definitions, with what they are asked and what float32 answers."""

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

SEED = 20261123
PICTURES = 512  # for top-1; a share of 99.5 % needs 200 at the least
FEW = 16  # the same where the CPU must do them all
SETTLED = 64  # pictures that batch norms take their statistics from
PHOTOGRAPHS = 4
RIDGE = 0.01  # of the features' mean square
CHUNK = 32  # pictures at a time where only answers are wanted
BRANCH = 0.2  # scale of a residual branch's last norm
TOKENS = 128
VOCABULARY = 30_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """A network in float32 on the device, a batch of inputs, more pictures (none of a text), and float32's answers."""

    name: str
    model: torch.nn.Module
    inputs: torch.Tensor
    right: torch.Tensor
    pictures: torch.Tensor | None
    classes: torch.Tensor | None

    def half(self, attention: str = "sdpa") -> torch.nn.Module:
        """A copy in float16 for torch to run: NHWC for pictures, its fastest attention for texts."""
        if self.name != "bert":
            return copy.deepcopy(self.model).half().to(memory_format=torch.channels_last)
        model = definition("bert", attention)
        model.load_state_dict(self.model.state_dict())
        return model.eval().half().to(self.inputs.device)

    def asked(self, inputs: torch.Tensor) -> torch.Tensor:
        """Inputs as a float16 model takes them."""
        if not inputs.is_floating_point():
            return inputs
        return inputs.half().to(memory_format=torch.channels_last)


def subject(name: str, batch: int, device: str, pictures: int) -> Subject:
    """The network with random weights of a fixed seed, its inputs, and float32's answers."""
    model = _settled(name, device, pictures)
    if name == "bert":
        generator = torch.Generator().manual_seed(SEED)
        inputs, more = torch.randint(0, VOCABULARY, (batch, TOKENS), generator=generator).to(device), None
    else:
        more = crops(side(name), pictures, device)
        inputs = more[:batch]
    with torch.no_grad(), exact():
        right = torch.cat([model(part) for part in inputs.split(CHUNK)])
        classes = None if more is None else torch.cat([model(part).argmax(1) for part in more.split(CHUNK)])
    return Subject(name=name, model=model, inputs=inputs, right=right, pictures=more, classes=classes)


def definition(name: str, attention: str = "eager") -> torch.nn.Module:
    """The network as its library defines it. BERT's "eager" attention is written out, which is what is exported."""
    if name == "bert":
        return _Bert(attention)
    import torchvision.models

    settings: dict[str, Any] = {"init_weights": True} if name == "inception_v3" else {}
    model: torch.nn.Module = getattr(torchvision.models, name)(weights=None, **settings)
    if name == "inception_v3":
        model.aux_logits, model.AuxLogits = False, None  # of training only
    return model


def side(name: str) -> int:
    """Height and width of a picture."""
    return 299 if name == "inception_v3" else 224


@cache
def crops(side: int, count: int, device: str) -> torch.Tensor:
    """Crops of scikit-image's photographs, normalized as ImageNet's are: (count, 3, side, side) float32."""
    from skimage import data

    photographs = [
        torch.from_numpy(each.astype(np.float32) / 255).permute(2, 0, 1).to(device)
        for each in (data.astronaut(), data.chelsea(), data.coffee(), data.rocket())
    ]
    generator = np.random.default_rng(SEED)
    made = []
    for number in range(count):
        photograph = photographs[number % len(photographs)]
        height, width = photograph.shape[1:]
        size = int(generator.integers(min(height, width) // 3, min(height, width)))
        top, left = (int(generator.integers(0, extent - size + 1)) for extent in (height, width))
        crop = photograph[None, :, top : top + size, left : left + size]
        made.append(torch.nn.functional.interpolate(crop, (side, side), mode="bilinear", antialias=True))
    return (torch.cat(made) - 0.45) / 0.225


def export(each: Subject, path: Path) -> None:
    """The model as ONNX in float32, its batch free, by torch's exporter."""
    torch.onnx.export(each.model, (each.inputs[:1],), str(path), input_names=["x"], output_names=["y"], dynamo=False,
                      opset_version=18, dynamic_axes={"x": {0: "n"}, "y": {0: "n"}})  # fmt: skip


@contextmanager
def exact() -> Iterator[None]:
    """No TF32: float32 as it is."""
    before = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = before


@cache
def _settled(name: str, device: str, pictures: int) -> torch.nn.Module:
    """Random weights of a fixed seed, but for what makes answers of a network for pictures worth comparing."""
    torch.manual_seed(SEED)
    model = definition(name).eval().to(device)
    if name != "bert":
        _shrink_branches(model)
        shown = crops(side(name), pictures, device)
        with torch.no_grad(), exact():
            _take_statistics(model, shown[:SETTLED])
            _tell_photographs_apart(model, shown)
    return model


def _shrink_branches(model: torch.nn.Module) -> None:
    """Residual branches add little, as in trained networks (their last norm often starts at 0: Goyal et al., Accurate,
    Large Minibatch SGD, 2017, section 5.1): at full size every random block amplifies rounding, and after the fifty of
    ResNet-152 float16 says nothing, torch's no more than ours."""
    from torchvision.models.resnet import Bottleneck

    for each in model.modules():
        if isinstance(each, Bottleneck):
            torch.nn.init.constant_(each.bn3.weight, BRANCH)


def _take_statistics(model: torch.nn.Module, shown: torch.Tensor) -> None:
    """Batch norms get the statistics of the pictures, as training leaves them: with the identity that they start as,
    ResNet-152 grows past float16."""
    norms = [each for each in model.modules() if isinstance(each, torch.nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = 1.0
        norm.train()
    if norms:
        model(shown)
    model.eval()


def _tell_photographs_apart(model: torch.nn.Module, shown: torch.Tensor) -> None:
    """The last layer is fitted (ridge regression) to name the photograph that a crop is of, as its first outputs:
    random ones give every picture the same class, or classes so close that rounding alone decides."""
    last = [each for each in model.modules() if isinstance(each, torch.nn.Linear)][-1]
    seen: list[torch.Tensor] = []
    hook = last.register_forward_pre_hook(lambda _layer, given: seen.append(given[0].double()))
    for part in shown.split(CHUNK):
        model(part)
    hook.remove()
    features = torch.cat(seen)
    centre = features.mean(0)
    wanted = torch.eye(PHOTOGRAPHS, dtype=torch.float64, device=shown.device)
    wanted = wanted[torch.arange(len(shown), device=shown.device) % PHOTOGRAPHS]
    among = (features - centre) @ (features - centre).T
    among += RIDGE * among.diagonal().mean() * torch.eye(len(among), dtype=torch.float64, device=shown.device)
    weights = (features - centre).T @ torch.linalg.solve(among, wanted - wanted.mean(0))
    last.weight[:PHOTOGRAPHS] = weights.T.float()
    last.bias[:PHOTOGRAPHS] = (wanted.mean(0) - centre @ weights).float()
    rest = features @ last.weight[PHOTOGRAPHS:].double().T
    last.weight[PHOTOGRAPHS:] /= 2 * rest.abs().max().float()
    last.bias[PHOTOGRAPHS:] = -1.0  # below every photograph's


class _Bert(torch.nn.Module):
    """BERT-base over 128 tokens, its last hidden state (n, 128, 768)."""

    def __init__(self, attention: str) -> None:
        super().__init__()
        from transformers import BertConfig, BertModel

        self.model = BertModel(BertConfig(attn_implementation=attention), add_pooling_layer=False)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        """Token numbers (n, 128) to hidden states."""
        return self.model(input_ids=ids).last_hidden_state
