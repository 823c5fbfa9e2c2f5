// The product of few rows with a large constant matrix, y = activation(alpha a b + bias): the matrix streams through
// shared memory by the copy engine, which keeps many more bytes on their way than loads into registers can.
//
//     a group of OUTPUTS outputs    | chunk 0: [output][32 units] | chunk 1 | ... | the last: [output][what is left] |
//     the block's warps in turns         warp 0                     warp 1  ...   and on through the block's groups
//
// A unit is 16 bytes, and a lane has one of each output. Every warp has a ring of STAGES chunks of its own, and refills a
// stage as soon as it has read it, so warps wait for each other only where a group's sums meet. The first chunks start
// before the previous kernel has ended.
//
// Set before this text: what row_units.cuh wants, ROWS (1 to 8), OUTPUTS, STAGES, ACTIVATE(v).
#include "latency.cuh"
#include "activations.cuh"
#include "row_units.cuh"

constexpr int WARPS = 8, LANES = 32, UNIT_BYTES = 16, CHUNK_BYTES = OUTPUTS * LANES * UNIT_BYTES, SUMS = OUTPUTS * ROWS;

// `b` is packed as in the picture, absent outputs of the last group as zeros; `bias` float32, one an output. Grid: any number
// of blocks; groups are dealt to them in turns. Shared memory: WARPS * STAGES * CHUNK_BYTES.
extern "C" __global__ void __launch_bounds__(WARPS* LANES, 1)
    row_stream(const Element* a, const Element* b, const float* bias, Output* y, const __grid_constant__ Sizes sizes) {
  extern __shared__ __align__(128) u8 memory[];
  __shared__ u64 barriers[WARPS][STAGES];
  __shared__ float partial[2][WARPS][SUMS];  // of this group and the one before
  const int lane = threadIdx.x % LANES, warp = threadIdx.x / LANES;
  const int units = sizes.k / UNIT, chunks = (units + LANES - 1) / LANES;
  const int groups = (sizes.outputs + OUTPUTS - 1) / OUTPUTS;
  const int own = (groups - (int)blockIdx.x + (int)gridDim.x - 1) / (int)gridDim.x;  // groups of this block
  const int all = own * chunks;  // its chunks, numbered through its groups; this warp has every WARPS-th
  u8* const ring = memory + warp * STAGES * CHUNK_BYTES;
  const u32 arrived = shared_address(&barriers[warp][0]);

  auto width = [&](int chunk) { return min(LANES, units - chunk * LANES); };  // units an output
  auto fetch = [&](int number, int stage) {
    if (number >= all) return;
    const int group = blockIdx.x + number / chunks * gridDim.x, chunk = number % chunks;
    const int bytes = OUTPUTS * width(chunk) * UNIT_BYTES;
    barrier_expect(arrived + stage * 8, bytes);
    copy_to_shared(shared_address(ring + stage * CHUNK_BYTES),
                   (const u8*)b + ((u64)group * units * OUTPUTS + (u64)chunk * LANES * OUTPUTS) * UNIT_BYTES, bytes,
                   arrived + stage * 8);
  };
  if (lane == 0) {
    UNROLL for (int stage = 0; stage < STAGES; stage++) barrier_init(arrived + stage * 8);
    barriers_are_ready();
    UNROLL for (int stage = 0; stage < STAGES; stage++) fetch(warp + stage * WARPS, stage);
  }
  __syncwarp();
  wait_for_previous();
  let_next_start();

  uint4 next[ROWS];
  auto load = [&](int number) {
    const int unit = number % chunks * LANES + lane;
    UNROLL for (int row = 0; row < ROWS; row++)
      next[row] = number < all && unit < units ? *(const uint4*)(a + row * sizes.a_row + unit * UNIT) : make_uint4(0, 0, 0, 0);
  };
  int number = warp, stage = 0, parity = 0;
  load(number);
  for (int turn = 0; turn < own; turn++) {
    float sum[OUTPUTS][ROWS];
    UNROLL for (int output = 0; output < OUTPUTS; output++) UNROLL for (int row = 0; row < ROWS; row++) sum[output][row] = 0.f;
    for (; number < (turn + 1) * chunks; number += WARPS) {
      float v[ROWS][UNIT];
      UNROLL for (int row = 0; row < ROWS; row++) widen(next[row], v[row]);
      load(number + WARPS);
      barrier_wait(arrived + stage * 8, parity);
      const int wide = width(number % chunks);
      if (lane < wide) {
        const uint4* held = (const uint4*)(ring + stage * CHUNK_BYTES) + lane;
        UNROLL for (int output = 0; output < OUTPUTS; output++) {
          float w[UNIT];
          widen(held[output * wide], w);
          UNROLL for (int row = 0; row < ROWS; row++)
            UNROLL for (int e = 0; e < UNIT; e++) sum[output][row] = fmaf(w[e], v[row][e], sum[output][row]);
        }
      }
      __syncwarp();
      if (lane == 0) fetch(number + STAGES * WARPS, stage);
      if (++stage == STAGES) stage = 0, parity ^= 1;
    }
    UNROLL for (int i = 0; i < SUMS; i++) {
      float total = sum[i / ROWS][i % ROWS];
      UNROLL for (int step = LANES / 2; step; step >>= 1) total += __shfl_xor_sync(~0u, total, step);
      if (lane == i % LANES) partial[turn & 1][warp][i] = total;
    }
    __syncthreads();
    const int output = (blockIdx.x + turn * gridDim.x) * OUTPUTS + (int)threadIdx.x / ROWS, row = threadIdx.x % ROWS;
    if (threadIdx.x < SUMS && output < sizes.outputs) {
      float total = 0.f;
      UNROLL for (int other = 0; other < WARPS; other++) total += partial[turn & 1][other][threadIdx.x];
      y[row * sizes.y_row + output] = narrow(ACTIVATE(fmaf(sizes.alpha, total, bias[output])));
    }
  }
}
