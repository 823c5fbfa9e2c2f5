"""Three layers of one's own: Swish, whose kernel is one line, YOLO's Reorg, whose output has another shape, and
RMSNorm, whose kernel is in Triton.

    enginewright build model.onnx -o model.plan --plugin examples/plugins/layers.py
    enginewright serve model.plan --allow-plugins

docs/plugins.md is the manual. The NumPy functions are the layers on the target cpu, and on a GPU the proof that the
kernels are held against.
"""

import numpy as np

from enginewright_runtime.plugins import Cuda, TensorSpec, Triton, plugin

SWISH = r"""
extern "C" __global__ void swish(const T* x, T* y) {
  long long at = blockIdx.x * (long long)blockDim.x + threadIdx.x;
  if (at >= N) return;
  float value = float(x[input0(at)]);
  y[output0(at)] = T(value / (1.0f + expf(-BETA * value)));
}
"""

REORG = r"""
extern "C" __global__ void reorg(const T* x, T* y) {
  long long at = blockIdx.x * (long long)blockDim.x + threadIdx.x;
  if (at >= N) return;
  long long column = at % OUTPUT0_3, row = at / OUTPUT0_3 % OUTPUT0_2, rest = at / OUTPUT0_3 / OUTPUT0_2;
  long long channel = rest % OUTPUT0_1, image = rest / OUTPUT0_1;
  long long part = channel / INPUT0_1, from = channel % INPUT0_1;
  long long high = row * STRIDE + part / STRIDE, wide = column * STRIDE + part % STRIDE;
  y[output0(at)] = x[input0(((image * INPUT0_1 + from) * INPUT0_2 + high) * INPUT0_3 + wide)];
}
"""

RMS_NORM = r"""
WIDTH = tl.constexpr(triton.next_power_of_2(INPUT0_1.value))


@triton.jit
def rms_norm(x, scale, y):
    column = tl.arange(0, WIDTH)
    inside = column < INPUT0_1
    at = tl.program_id(0) * INPUT0_1 + column
    value = tl.load(x + input0(at), mask=inside, other=0.0).to(tl.float32)
    gain = tl.load(scale + input1(column), mask=inside, other=0.0).to(tl.float32)
    root = tl.rsqrt(tl.sum(value * value, 0) / INPUT0_1 + EPSILON)
    tl.store(y + output0(at), (value * root * gain).to(T), mask=inside)
"""


@plugin("com.example.Swish", attributes={"beta": 1.0}, cuda=Cuda(source=SWISH, entry="swish"))
def swish(x, beta):
    """x sigmoid(beta x). Ramachandran et al. 2017."""
    return (x / (1 + np.exp(-np.float32(beta) * x))).astype(x.dtype)


def smaller(x: TensorSpec, stride: int) -> TensorSpec:
    """(n, c, h, w) to (n, c stride^2, h / stride, w / stride)."""
    batch, channels, height, width = x.shape
    if height % stride or width % stride:
        raise ValueError(f"{height}x{width} does not divide by the stride {stride}")
    return TensorSpec(x.dtype, (batch, channels * stride * stride, height // stride, width // stride))


@plugin("com.example.Reorg", rule=smaller, attributes={"stride": 2}, cuda=Cuda(source=REORG, entry="reorg"))
def reorg(x, stride):
    """Each square of pixels to channels, place by place. Redmon and Farhadi 2016."""
    batch, channels, height, width = x.shape
    squares = x.reshape(batch, channels, height // stride, stride, width // stride, stride)
    return squares.transpose(0, 3, 5, 1, 2, 4).reshape(batch, -1, height // stride, width // stride)


@plugin(
    "com.example.RMSNorm",
    attributes={"epsilon": 1e-6},
    triton=Triton(source=RMS_NORM, entry="rms_norm", programs=lambda x, scale, epsilon: x.shape[0]),
)
def rms_norm(x, scale, epsilon):
    """Rows x / rms(x) * scale. Zhang and Sennrich 2019."""
    wide = x.astype(np.float32)
    root = np.sqrt((wide * wide).mean(axis=1, keepdims=True) + np.float32(epsilon))
    return (wide / root * scale.astype(np.float32)).astype(x.dtype)
