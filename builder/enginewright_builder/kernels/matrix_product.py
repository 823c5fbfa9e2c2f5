"""y = activation(alpha a b + bias + residual), or v activation(v) of that sum v where it is gated; sums in float32.

Shapes of a plan are fixed, so sizes and strides (in elements) are constants: what divides by what decides how wide a
load may be, and a mask that always holds costs nothing. A row of `a` is contiguous; `b` may lie either way. Products of
a batch are numbered by the grid's second dimension, which two strides turn into addresses.
"""

# A source that Triton compiles, as NVRTC does the .cu files beside it: no module of the package, and without types.
# ruff: noqa: INP001
# mypy: ignore-errors
import triton
import triton.language as tl


@triton.jit
def activated(v, NAME: tl.constexpr, FIRST: tl.constexpr, SECOND: tl.constexpr):
    """ONNX's activation; FIRST and SECOND are its parameters. Comparisons are written so that NaN stays NaN."""
    if NAME == "Relu":
        v = tl.where(v < 0, 0.0, v)
    elif NAME == "Clip":
        v = tl.where(v < FIRST, FIRST, v)
        v = tl.where(v > SECOND, SECOND, v)
    elif NAME == "LeakyRelu":
        v = tl.where(v < 0, v * FIRST, v)
    elif NAME == "Elu":
        v = tl.where(v < 0, (tl.exp(v) - 1.0) * FIRST, v)
    elif NAME == "Sigmoid":
        v = 1.0 / (1.0 + tl.exp(-v))
    elif NAME == "HardSigmoid":
        v = v * FIRST + SECOND
        v = tl.where(v < 0, 0.0, v)
        v = tl.where(v > 1, 1.0, v)
    elif NAME == "HardSwish":
        gate = v / 6.0 + 0.5
        gate = tl.where(gate < 0, 0.0, gate)
        v = v * tl.where(gate > 1, 1.0, gate)
    elif NAME == "Tanh":
        v = 1.0 - 2.0 / (1.0 + tl.exp(v * 2.0))
    elif NAME == "Gelu":
        v = v * 0.5 * (1.0 + tl.erf(v * 0.7071067811865476))
    elif NAME == "Gelu by tanh":
        inner = 0.7978845608028654 * (v + 0.044715 * v * v * v)
        v = v * (1.0 - 1.0 / (1.0 + tl.exp(inner * 2.0)))
    return v


@triton.jit
def matrix_product(
    a,
    b,
    bias,
    residual,
    y,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
    DEPTH: tl.constexpr,
    INNER: tl.constexpr,
    A_ROW: tl.constexpr,
    A_INNER: tl.constexpr,
    A_OUTER: tl.constexpr,
    B_DEPTH: tl.constexpr,
    B_COLUMN: tl.constexpr,
    B_INNER: tl.constexpr,
    B_OUTER: tl.constexpr,
    RESIDUAL_ROW: tl.constexpr,
    RESIDUAL_INNER: tl.constexpr,
    RESIDUAL_OUTER: tl.constexpr,
    Y_ROW: tl.constexpr,
    Y_INNER: tl.constexpr,
    Y_OUTER: tl.constexpr,
    ALPHA: tl.constexpr,
    ACTIVATION: tl.constexpr,
    FIRST: tl.constexpr,
    SECOND: tl.constexpr,
    GATED: tl.constexpr,
    TILE_ROWS: tl.constexpr,
    TILE_COLUMNS: tl.constexpr,
    STEP: tl.constexpr,
    GROUP: tl.constexpr,
):
    """A tile of y; tiles of GROUP rows of tiles follow one another, so that what they read stays in the L2 cache."""
    across = tl.cdiv(COLUMNS, TILE_COLUMNS)
    down = tl.cdiv(ROWS, TILE_ROWS)
    program = tl.program_id(0)
    above = program // (GROUP * across) * GROUP
    height = min(down - above, GROUP)
    tile = program % (GROUP * across)
    m = (above + tile % height) * TILE_ROWS + tl.arange(0, TILE_ROWS)
    n = tile // height * TILE_COLUMNS + tl.arange(0, TILE_COLUMNS)
    k = tl.arange(0, STEP)
    inner = tl.program_id(1) % INNER
    outer = tl.program_id(1) // INNER
    from_a = a + inner * A_INNER + outer * A_OUTER + m[:, None] * A_ROW + k[None, :]
    from_b = b + inner * B_INNER + outer * B_OUTER + k[:, None] * B_DEPTH + n[None, :] * B_COLUMN
    sums = tl.zeros((TILE_ROWS, TILE_COLUMNS), tl.float32)
    for start in range(0, DEPTH, STEP):
        left = tl.load(from_a, mask=(m[:, None] < ROWS) & (k[None, :] < DEPTH - start), other=0.0)
        right = tl.load(from_b, mask=(k[:, None] < DEPTH - start) & (n[None, :] < COLUMNS), other=0.0)
        sums = tl.dot(left, right, sums)
        from_a += STEP
        from_b += STEP * B_DEPTH
    v = sums * ALPHA
    inside = (m[:, None] < ROWS) & (n[None, :] < COLUMNS)
    if bias is not None:
        v += tl.load(bias + n, mask=n < COLUMNS, other=0.0)[None, :]
    if residual is not None:
        at = inner * RESIDUAL_INNER + outer * RESIDUAL_OUTER + m[:, None] * RESIDUAL_ROW + n[None, :]
        v += tl.load(residual + at, mask=inside, other=0.0).to(tl.float32)
    bent = activated(v, ACTIVATION, FIRST, SECOND)
    if GATED:
        bent = bent * v
    at = inner * Y_INNER + outer * Y_OUTER + m[:, None] * Y_ROW + n[None, :]
    tl.store(y + at, bent.to(y.dtype.element_ty), mask=inside)
