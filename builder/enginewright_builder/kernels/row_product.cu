// The product of few rows with a constant matrix, y = activation(alpha a b + bias), as at a classifier's end at batch 1.
//
// Each weight is used ROWS times only, so the time is that of reading the weights: every thread keeps DEPTH loads of 16
// bytes on their way, and the first of them start before the previous kernel has ended.
//
//     b as [output][k]:   output o   |lane 0|lane 1| ... |lane 31|lane 0| ...    a warp's step: 32 x 16 bytes of one row
//                         output o+1 ...                                         WARPS warps share an output's steps
//
// Set before this text: what row_units.cuh wants, ROWS (1 to 8), WARPS (1, 2, 4, 8: of a block that share an output),
// ACTIVATE(v).
#include "latency.cuh"
#include "activations.cuh"
#include "row_units.cuh"

constexpr int DEPTH = 8, THREADS = 256, OUTPUTS = THREADS / 32 / WARPS;

// `b` is [output][k], contiguous; `bias` float32, one an output. Grid: outputs / OUTPUTS. Two blocks a multiprocessor: left to
// itself, ptxas 13.5 stops at 80 registers on compute capability 10.0 and 12.0 and spills one.
extern "C" __global__ void __launch_bounds__(THREADS, 2)
    row_product(const Element* a, const Element* b, const float* bias, Output* y, const __grid_constant__ Sizes sizes) {
  __shared__ float partial[OUTPUTS][WARPS][ROWS];
  const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5, slot = warp / WARPS, share = warp % WARPS;
  const int output = blockIdx.x * OUTPUTS + slot, units = sizes.k / UNIT;
  const bool exists = output < sizes.outputs;
  const Element* weights = b + (u64)(exists ? output : 0) * sizes.k;
  const int first = share * 32 + lane;  // unit; the next one of this thread is WARPS * 32 on
  auto fetch = [&](uint4 (&w)[DEPTH], int from) {
    UNROLL for (int i = 0; i < DEPTH; i++) {
      const int unit = from + i * WARPS * 32;
      w[i] = unit < units ? load_constant16(weights + unit * UNIT) : make_uint4(0, 0, 0, 0);
    }
  };
  uint4 next[DEPTH];
  fetch(next, first);
  const float added = exists ? bias[output] : 0.f;
  wait_for_previous();
  let_next_start();

  float sum[ROWS];
  UNROLL for (int row = 0; row < ROWS; row++) sum[row] = 0.f;
  for (int from = first; from < units; from += DEPTH * WARPS * 32) {
    uint4 now[DEPTH];
    UNROLL for (int i = 0; i < DEPTH; i++) now[i] = next[i];
    fetch(next, from + DEPTH * WARPS * 32);
    UNROLL for (int i = 0; i < DEPTH; i++) {
      const int unit = from + i * WARPS * 32;
      if (unit >= units) break;
      float w[UNIT], v[UNIT];
      widen(now[i], w);
      UNROLL for (int row = 0; row < ROWS; row++) {
        widen(*(const uint4*)(a + row * sizes.a_row + unit * UNIT), v);
        UNROLL for (int e = 0; e < UNIT; e++) sum[row] = fmaf(w[e], v[e], sum[row]);
      }
    }
  }
  UNROLL for (int row = 0; row < ROWS; row++) {
    UNROLL for (int step = 16; step; step >>= 1) sum[row] += __shfl_xor_sync(~0u, sum[row], step);
    if (lane == 0) partial[slot][share][row] = sum[row];
  }
  if (WARPS > 1) __syncthreads();
  if (share != 0 || lane != 0 || !exists) return;
  UNROLL for (int row = 0; row < ROWS; row++) {
    float total = 0.f;
    UNROLL for (int other = 0; other < WARPS; other++) total += partial[slot][other][row];
    total = fmaf(sizes.alpha, total, added);
    y[row * sizes.y_row + output] = narrow(ACTIVATE(total));
  }
}
