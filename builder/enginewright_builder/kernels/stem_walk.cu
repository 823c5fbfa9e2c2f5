// The first convolution of a network on pictures, for batches that fill the GPU: as stem_conv.cu (which explains how
// windows lie in shared memory), but a block, one warpgroup, walks down a strip of its picture, MADE rows of y a step.
//
//     ring of input rows in shared memory       a step reads AHEAD batches; the next step's last one is on its way in
//     | batch 0 | batch 1 | batch 2 | batch 3 |  registers while tensor cores work, then replaces the oldest
//
//     step s:   products of step s start                   tensor cores
//               the next batch of input rows is asked for  device memory
//               step s - 1's result is pooled and stored   device memory
//               products end; the maximum down the rows; the result into one of two buffers; the batch into the ring
//
// so that a step needs one barrier. The maximum down a pool's rows is taken in registers; its rows that the next step
// needs again are kept there. A walk that does not begin at the picture's top makes these in steps that store nothing.
//
// Set before this text: as for stem_conv.cu, but for ROWS; COLUMNS (of the convolution that wgmma makes; a multiple of
// 8), NEEDED (of these, for y), MADE, BLOCKS (at a time on a multiprocessor). POOL_STRIDE_H is at most POOL_H.
#include "latency.cuh"
#include "wide_products.cuh"
#include "activations.cuh"
#include "stem.cuh"

constexpr int THREADS = 128;
constexpr int NEW = MADE * POOL_STRIDE_H, KEPT = POOL_H - POOL_STRIDE_H;  // rows of the convolution that a step makes, has
constexpr int WARMUP = (KEPT + NEW - 1) / NEW;                            // steps that make the first kept rows
constexpr int BATCH = NEW * STRIDE_H;                                     // input rows by which a step moves on
constexpr int AHEAD = ((NEW - 1) * STRIDE_H + KERNEL_H + BATCH - 1) / BATCH, SLOTS = AHEAD + 1;
constexpr int ROW_UNITS = COLUMNS - 1 + UNITS, ROW_PIXELS = (NEEDED - 1 + UNITS) * STRIDE_W;
constexpr int ROUNDS = (ROW_PIXELS + THREADS - 1) / THREADS;
constexpr int WORDS = COLUMNS / 4;  // of two elements, a thread's share of a row
constexpr int INPUT_PART = SLOTS * BATCH * ROW_UNITS * 16, RESULT_AT = INPUT_AT + PARTS * INPUT_PART;
constexpr int RESULT_ROW = COLUMNS * RESULT_COLUMN;
constexpr u32 LOWEST = ELEMENT_IS_BFLOAT16 ? 0xff80ff80u : 0xfc00fc00u;  // minus infinity, twice

typedef Input Rows[BATCH][ROUNDS][CHANNELS];

// The same number from the warp's first lane, for one that all lanes have: the compiler keeps what comes from elsewhere,
// and would make a product of 64 bits again for every load of a loop.
DEVICE u64 once(u64 v) {
  return (u32)__shfl_sync(~0u, (u32)v, 0) | (u64)(u32)__shfl_sync(~0u, (u32)(v >> 32), 0) << 32;
}

// Asks for the input rows from `top` on; zero outside of the picture.
DEVICE void load_rows(Rows& v, const Sizes& sizes, const Input* x, int top, int left) {
  UNROLL for (int i = 0; i < ROUNDS; i++) {
    const int pixel = threadIdx.x + i * THREADS, column = left + pixel;
    const bool within = pixel < ROW_PIXELS && column >= 0 && column < sizes.in_width;
    UNROLL for (int r = 0; r < BATCH; r++) {
      const int row = top + r;
      const bool inside = within && row >= 0 && row < sizes.in_height;
      UNROLL for (int channel = 0; channel < CHANNELS; channel++)
        v[r][i][channel] =
            inside ? x[row * sizes.x_row + column * sizes.x_column + channel * sizes.x_channel] : (Input)0;
    }
  }
}

// Puts them into a slot of the ring.
DEVICE void keep_rows(const Rows& v, u8* memory, int slot) {
  UNROLL for (int i = 0; i < ROUNDS; i++) {
    const int pixel = threadIdx.x + i * THREADS;
    if (pixel < ROW_PIXELS) UNROLL for (int r = 0; r < BATCH; r++) {
      u8* target = memory + INPUT_AT + (slot * BATCH + r) * (ROW_UNITS * 16) + pixel * (UNIT_CHANNELS * 2);
      keep_pixel(target, v[r][i], INPUT_PART);
    }
  }
}

// Starts a step's products, whose windows begin in `slot`.
DEVICE void multiply(float (&d)[NEW][COLUMNS / 2], u32 shared, int slot, float2 added) {
  UNROLL for (int n = 0; n < NEW; n++) UNROLL for (int i = 0; i < COLUMNS / 2; i++) d[n][i] = i & 2 ? added.y : added.x;
  const u64 a = matrix(shared + WEIGHTS_AT, 1024, 128, NONE), b = matrix(shared + INPUT_AT, 16, 128, NONE);
  products_begin();
  UNROLL for (int p = 0; p < PRODUCTS; p++)
    UNROLL for (int r = 0; r < KERNEL_H; r++) UNROLL for (int k = 0; k < UNITS; k += 2) UNROLL for (int n = 0; n < NEW; n++) {
      const int row = slot * BATCH + n * STRIDE_H + r, place = row < SLOTS * BATCH ? row : row - SLOTS * BATCH;
      multiply_add(d[n], a + weight_part(p) + (r * UNITS + k) / 2 * 128,
                   b + input_part(p, INPUT_PART) + (u32)(place * ROW_UNITS + k), 1);
    }
  products_start();
}

// The maximum down each of the step's pools, to `result`; `row` is the step's first new row of the convolution.
DEVICE void finish(const float (&d)[NEW][COLUMNS / 2], bool low, u32 (&kept)[KEPT + 1][WORDS], u8* result, int row,
                   int height) {
  UNROLL for (int j = 0; j < COLUMNS / 8; j++) UNROLL for (int h = 0; h < 2; h++) {
    u32 rows[KEPT + NEW];
    UNROLL for (int i = 0; i < KEPT; i++) rows[i] = kept[i][2 * j + h];
    UNROLL for (int n = 0; n < NEW; n++) {
      const u32 v = finished(d[n][4 * j + h], d[n][4 * j + 2 + h], low);
      rows[KEPT + n] = POOL_H == 1 || (row + n >= 0 && row + n < height) ? v : LOWEST;  // the pooling's padding
    }
    UNROLL for (int m = 0; m < MADE; m++) {
      u32 best = rows[m * POOL_STRIDE_H];
      UNROLL for (int p = 1; p < POOL_H; p++) best = larger_pair(best, rows[m * POOL_STRIDE_H + p]);
      *(u32*)(result + m * RESULT_ROW + (8 * j + h) * RESULT_COLUMN) = best;
    }
    UNROLL for (int i = 0; i < KEPT; i++) kept[i][2 * j + h] = rows[NEW + i];
  }
}

// The maximum along a row, to `columns` pixels of y. A window that reaches out of the convolution reads its nearest
// column within twice instead, which changes no maximum: `first` is the first window's column, `last` the last there is.
DEVICE void store_row(u16* y, int y_column, const u8* result, int columns, int first, int last) {
#pragma unroll (POOL_W > 1 ? 1 : 4)
  for (int column = threadIdx.x >> 3; column < columns; column += THREADS / 8) {
    uint4 best;
    UNROLL for (int q = 0; q < POOL_W; q++) {
      const int from = POOL_W == 1 ? column : min(max(column * POOL_STRIDE_W + first + q, 0), last);
      const uint4 v = *(const uint4*)(result + from * RESULT_COLUMN);
      best = q ? larger(best, v) : v;
    }
    *(uint4*)(y + column * y_column) = best;
  }
}

// Grid: (tiles of `columns` across y, walks of `walk` rows down y, images x tiles of 64 output channels).
// `weights` and `bias` as for stem_conv.cu.
extern "C" __global__ void __launch_bounds__(THREADS, BLOCKS)
    stem_walk(const Input* x, const u8* weights, const float* bias, u16* y, const __grid_constant__ Sizes sizes, int walk) {
  extern __shared__ __align__(1024) u8 memory[];
  const int warp = __shfl_sync(~0u, threadIdx.x >> 5, 0), lane = threadIdx.x & 31, g = lane >> 2, t = lane & 3;
  const int image = blockIdx.z / sizes.output_tiles, tile = blockIdx.z % sizes.output_tiles;
  const u32 shared = shared_address(memory);
  if (warp == 0 && is_elected()) {
    barrier_init(shared);
    barriers_are_ready();
    barrier_expect(shared, WEIGHT_BYTES);
    copy_to_shared(shared + WEIGHTS_AT, weights + (u64)tile * WEIGHT_BYTES, WEIGHT_BYTES, shared);
  }
  const bool low = LOW_FROM && tile * 64 + warp * 16 + 2 * g >= LOW_FROM;
  const float2 added = *(const float2*)(bias + tile * 64 + warp * 16 + 2 * g);

  // down: the rows of y here, and the first that a step makes of the convolution
  const int y_row = blockIdx.y * walk, y_rows = min(walk, sizes.height - y_row);
  const int begin = y_row * POOL_STRIDE_H - sizes.pool_pad_h + KEPT;
  const int warmup = begin > 0 ? WARMUP : 0, steps = warmup + (y_rows + MADE - 1) / MADE;
  const int conv_row = begin - warmup * NEW, top = conv_row * STRIDE_H - sizes.pad_h;
  // across: the columns of y here, and the first of the convolution
  const int y_column = blockIdx.x * sizes.columns, columns = min(sizes.columns, sizes.width - y_column);
  const int window = y_column * POOL_STRIDE_W - sizes.pool_pad_w, conv_column = max(window, 0);
  const int left = conv_column * STRIDE_W - sizes.pad_w, last = sizes.conv_width - 1 - conv_column;
  const int chunk = threadIdx.x & 7;  // of 8 channels, that this thread stores
  const int stored = tile * 64 + chunk * 8 < sizes.outputs ? columns : 0;
  x += once(image * sizes.x_image);
  y += once(image * sizes.y_image + (u32)(y_row * sizes.y_row + y_column * sizes.y_column + tile * 64)) + chunk * 8;
  u8* const results = memory + RESULT_AT;
  u8* const mine = results + 2 * t * RESULT_COLUMN + (warp * 16 + 2 * g) * 2;
  const auto store = [&](int step) {
    UNROLL for (int m = 0; m < MADE; m++) {
      const int row = (step - warmup) * MADE + m;
      if (row < y_rows)
        store_row(y + row * sizes.y_row, sizes.y_column, results + ((step & 1) * MADE + m) * RESULT_ROW + chunk * 16,
                  stored, window - conv_column, last);
    }
  };

  Rows v;
  float d[NEW][COLUMNS / 2];
  u32 kept[KEPT + 1][WORDS];
  UNROLL for (int i = 0; i < KEPT; i++) UNROLL for (int w = 0; w < WORDS; w++) kept[i][w] = LOWEST;
  wait_for_previous();
  for (int slot = 0; slot < AHEAD; slot++) {
    load_rows(v, sizes, x, top + slot * BATCH, left);
    keep_rows(v, memory, slot);
  }
  let_next_start();
  fence_for_async();
  __syncthreads();
  barrier_wait(shared, 0);

  int slot = 0;  // of the step's first input row
  for (int step = 0; step < steps; step++) {
    const bool more = step + 1 < steps;
    multiply(d, shared, slot, added);
    if (more) load_rows(v, sizes, x, top + (step + AHEAD) * BATCH, left);
    if (step > warmup) store(step - 1);
    products_wait();
    UNROLL for (int n = 0; n < NEW; n++) settle(d[n]);
    finish(d, low, kept, mine + (step & 1) * MADE * RESULT_ROW, conv_row + step * NEW, sizes.conv_height);
    if (more) keep_rows(v, memory, slot ? slot - 1 : AHEAD);  // where nothing reads: the step before's first batch
    fence_for_async();
    __syncthreads();
    slot = slot == AHEAD ? 0 : slot + 1;
  }
  store(steps - 1);
}
