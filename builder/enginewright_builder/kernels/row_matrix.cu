// The product of few rows with a large constant matrix, y = activation(alpha a b + bias), of a half type: as row_product.cu,
// but matrix units multiply, so that more rows cost nothing, and a block's weights are all on their way (or there) when the
// previous kernel ends: what is left is to read a, which fits the L2.
//
//     b as [output][k]:   output o   | step 0 | step 1 | ...    a step is 32 numbers, lane t % 4 has 16 bytes of it
//                         ...                                   a block has 8 outputs, the lanes g of a warp;
//                         output o+7                            its warps share the steps, each a stretch of them
//
// Which 16 of a step's numbers meet in one instruction is the same for a and b, and the order of a sum is free.
//
// Set before this text: what row_units.cuh wants, ROWS (1 to 8), ACTIVATE(v).
#include "latency.cuh"
#include "warp_matrix.cuh"
#include "activations.cuh"
#include "row_units.cuh"

constexpr int WARPS = 8, DEPTH = 8, OUTPUTS = 8, STEP_UNITS = 4;

// `b` is [output][k], contiguous; `bias` float32, one an output. Grid: outputs / OUTPUTS.
extern "C" __global__ void __launch_bounds__(32 * WARPS)
    row_matrix(const Element* a, const Element* b, const float* bias, Output* y, const __grid_constant__ Sizes sizes) {
  __shared__ float2 partial[WARPS][8][OUTPUTS / 2];
  const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5, g = lane >> 2, t = lane & 3;
  const int units = sizes.k / UNIT, steps = (units + STEP_UNITS - 1) / STEP_UNITS, share = (steps + WARPS - 1) / WARPS;
  const int end = min((warp + 1) * share, steps), first = blockIdx.x * OUTPUTS;
  const Element* weights = b + (u64)min(first + g, sizes.outputs - 1) * sizes.k;
  const auto fetch = [&](uint4 (&w)[DEPTH], int from) {
    UNROLL for (int i = 0; i < DEPTH; i++) {
      const int unit = (from + i) * STEP_UNITS + t;
      w[i] = from + i < end && unit < units ? load_constant16(weights + unit * UNIT) : make_uint4(0, 0, 0, 0);
    }
  };
  uint4 next[DEPTH];
  fetch(next, warp * share);
  const int row = threadIdx.x / OUTPUTS, output = first + threadIdx.x % OUTPUTS;  // that this thread stores
  const bool stores = row < ROWS && output < sizes.outputs;
  const float added = stores ? bias[output] : 0.f;
  wait_for_previous();
  let_next_start();

  float d[4] = {0.f, 0.f, 0.f, 0.f};
  for (int from = warp * share; from < end; from += DEPTH) {
    uint4 now[DEPTH], v[DEPTH];
    UNROLL for (int i = 0; i < DEPTH; i++) {
      const int unit = (from + i) * STEP_UNITS + t;
      now[i] = next[i];
      v[i] = g < ROWS && from + i < end && unit < units ? *(const uint4*)(a + g * sizes.a_row + unit * UNIT) : make_uint4(0, 0, 0, 0);
    }
    fetch(next, from + DEPTH);
    UNROLL for (int i = 0; i < DEPTH; i++) {
      const u32 low[4] = {v[i].x, 0, v[i].y, 0}, high[4] = {v[i].z, 0, v[i].w, 0};
      multiply_add(d, low, now[i].x, now[i].y);
      multiply_add(d, high, now[i].z, now[i].w);
    }
  }
  partial[warp][g][t] = make_float2(d[0], d[1]);
  __syncthreads();
  if (!stores) return;
  float total = 0.f;
  UNROLL for (int other = 0; other < WARPS; other++) total += ((const float*)partial[other][row])[threadIdx.x % OUTPUTS];
  total = fmaf(sizes.alpha, total, added);
  y[row * sizes.y_row + output] = narrow(ACTIVATE(total));
}
