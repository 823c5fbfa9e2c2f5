// The first convolution of a network on pictures, with the max pool of 3x3 and stride 2 behind it: as stem_conv.cu (which
// explains how windows lie in shared memory), but a block makes a band of rows of y and all the rows of the convolution under
// it, one after the other, its warpgroups in turns:
//
//     group 0   row 0: products | pack, maximum along, keep |  (wait)  | row 3: products | ...
//     group 1       (wait)      | row 1: products | pack, maximum along, keep |  (wait)  | row 4 ...
//     group 2              (wait)                 | row 2: products | pack, ..., keep, pool and store
//
// so that tensor cores always have products (a warpgroup's own work would not overlap with them: it waits while it starts
// them) and rows end in order. Pixels that the first GROUPS rows need come first; then each group asks for those that its next
// row is the first to need before its products, and puts them into a ring of input rows behind them.
//
// Set before this text: as for stem_conv.cu, but for ROWS; COLUMNS (of the convolution that wgmma makes; a multiple of 8),
// LEAD (of them, those left of the columns that a block's own pools begin with: 0 or 2), POOLED (columns of y), GROUPS, PAD_W.
// Pixels are float32 and lie beside each other, rows and channels at even steps, and a row of the convolution is even.
#include "latency.cuh"
#include "wide_products.cuh"
#include "activations.cuh"
#include "stem.cuh"

static_assert(POOL_H == 3 && POOL_W == 3 && POOL_STRIDE_H == 2 && POOL_STRIDE_W == 2 && STRIDE_W == 2, "");
static_assert(INPUT_IS_FLOAT && !WHOLE, "");

constexpr int THREADS = 128 * GROUPS;
constexpr int AT_FIRST = (GROUPS - 1) * STRIDE_H + KERNEL_H;  // input rows for a row of each group
// Input rows in shared memory: what a group brings for its next row may replace what all rows before its last one read.
constexpr int RING = (2 * GROUPS - 1) * STRIDE_H + KERNEL_H;
constexpr int NEEDED = 2 * POOLED + LEAD, SHIFT = PAD_W & 1;  // pixels from the first pair's first to the first window
constexpr int PAIRS = (SHIFT + (NEEDED - 1 + UNITS) * 2 + 1) / 2, WINDOWS = COLUMNS - 1 + UNITS;
constexpr int PITCH = SHIFT + (PAIRS > WINDOWS ? PAIRS : WINDOWS);  // units of a row
constexpr int KEPT_COLUMN = 64 * 2 + 32, KEPT_ROW = COLUMNS / 2 * KEPT_COLUMN;  // bytes; columns begin in other banks
constexpr int KEPT_AT = INPUT_AT + RING * PITCH * 16, KEPT_ROWS = 2 * GROUPS;
constexpr int J = COLUMNS / 8;
constexpr u32 LOWEST = ELEMENT_IS_BFLOAT16 ? 0xff80ff80u : 0xfc00fc00u;  // minus infinity, twice

// Barriers at the beginning of shared memory: weights are there; the input of the row GROUPS after a row is there; a row is
// kept. A row has one of so many, whose phases take turns.
constexpr int PHASED = 8, THERE = 8, KEPT = THERE + PHASED * 8;
static_assert(PHASED > GROUPS * 2 && KEPT + PHASED * 8 <= WEIGHTS_AT && KERNEL_H >= STRIDE_H, "");

DEVICE void row_is(u32 what, int row) { barrier_arrive(what + row % PHASED * 8); }
DEVICE void wait_until_row_is(u32 what, int row) { barrier_wait(what + row % PHASED * 8, row / PHASED & 1); }

// A group's turn to multiply: one waits for it that another passes on.
DEVICE void wait_for_turn(int group) { asm volatile("bar.sync %0, 256;" ::"r"(group + 1) : "memory"); }
DEVICE void pass_turn_to(int group) { asm volatile("bar.arrive %0, 256;" ::"r"(group + 1) : "memory"); }


// Pixels of some input rows, in pairs, that one of MANY threads brings.
template <int ROWS, int MANY>
struct Pixels {
  static constexpr int ITEMS = ROWS * PAIRS, ROUNDS = (ITEMS + MANY - 1) / MANY;
  float2 v[ROUNDS][CHANNELS];

  // Asks for them; zero outside of the picture.
  DEVICE void load(const Sizes& sizes, const Input* x, int top, int left) {
    UNROLL for (int i = 0; i < ROUNDS; i++) {
      const int item = threadIdx.x % MANY + i * MANY, row = top + item / PAIRS, column = left + item % PAIRS * 2;
      const bool inside = item < ITEMS && (u32)row < (u32)sizes.in_height && (u32)column < (u32)sizes.in_width;
      UNROLL for (int channel = 0; channel < CHANNELS; channel++)
        v[i][channel] = inside ? *(const float2*)(x + row * sizes.x_row + column + channel * sizes.x_channel) : float2{};
    }
  }

  // Puts them into the ring, for wgmma to read, from the band's input row `first` on. Half of the lanes store a pair's second
  // pixel first, so that lanes of a store meet in no bank.
  DEVICE void keep(u8* memory, int first) const {
    const bool swapped = SHIFT && threadIdx.x & 8;
    UNROLL for (int i = 0; i < ROUNDS; i++) {
      const int item = threadIdx.x % MANY + i * MANY;
      if (item >= ITEMS) break;
      float a[4], b[4];
      UNROLL for (int c = 0; c < 4; c++) {
        a[c] = c < CHANNELS ? v[i][c < CHANNELS ? c : 0].x : 0.f;
        b[c] = c < CHANNELS ? v[i][c < CHANNELS ? c : 0].y : 0.f;
      }
      const uint2 one = make_uint2(to_pair(a[0], a[1]), to_pair(a[2], a[3]));
      const uint2 two = make_uint2(to_pair(b[0], b[1]), to_pair(b[2], b[3]));
      u8* target = memory + INPUT_AT + ((first + item / PAIRS) % RING * PITCH + item % PAIRS) * 16 + SHIFT * 8;
      if (SHIFT) {
        *(uint2*)(target + (swapped ? 8 : 0)) = swapped ? two : one;
        *(uint2*)(target + (swapped ? 0 : 8)) = swapped ? one : two;
      } else {
        *(uint4*)target = make_uint4(one.x, one.y, two.x, two.y);
      }
    }
    fence_for_async();
  }
};

// Brings the weights, in one copy: the thread that asks for pixels next should not be kept by many.
DEVICE void bring_weights(u32 shared, const u8* weights) {
  barrier_expect(shared, WEIGHT_BYTES);
  copy_to_shared(shared + WEIGHTS_AT, weights, WEIGHT_BYTES, shared);
}

// Starts the products of a row of the convolution, whose windows begin in `slot` of the ring.
DEVICE void multiply(float (&d)[COLUMNS / 2], u32 shared, int slot) {
  const u64 a = matrix(shared + WEIGHTS_AT, 1024, 128, NONE), b = matrix(shared + INPUT_AT + SHIFT * 16, 16, 128, NONE);
  products_begin();
  UNROLL for (int r = 0; r < KERNEL_H; r++) UNROLL for (int k = 0; k < UNITS; k += 2) {
    const int place = slot + r < RING ? slot + r : slot + r - RING;
    multiply_add(d, a + (r * UNITS + k) / 2 * 128, b + (u32)(place * PITCH + k), 1);
  }
  products_start();
}

// The maximum along a row of the convolution, of columns 2 c - 1 to 2 c + 1 for every column c of y, to `kept`. Of c = 4 j + t a
// lane has the last two; the first is its neighbour's.
DEVICE void keep_row(const float (&d)[COLUMNS / 2], u8* kept, bool lead_is_outside) {
  const int lane = threadIdx.x & 31, t = lane & 3, from = (lane & ~3) | ((t + 3) & 3);
  u32 before = LOWEST;  // the odd column of j - 1
  UNROLL for (int j = 0; j < J; j++) {
    const u32 even = FINISH(d[4 * j], d[4 * j + 2]), odd = FINISH(d[4 * j + 1], d[4 * j + 3]);
    u32 sent = t < 3 ? odd : before;
    if (j == 0 && LEAD && t == 0 && lead_is_outside) sent = LOWEST;
    before = odd;
    *(u32*)(kept + 4 * j * KEPT_COLUMN) = larger_pair(__shfl_sync(~0u, sent, from), larger_pair(even, odd));
  }
}

// Grid: (tiles of POOLED columns across y, bands of `band` rows down y, images x tiles of 64 output channels).
// `weights` and `bias` as for stem_conv.cu.
extern "C" __global__ void __launch_bounds__(THREADS, 1)
    stem_band(const Input* x, const u8* weights, const float* bias, u16* y, const __grid_constant__ Sizes sizes, int band) {
  extern __shared__ __align__(1024) u8 memory[];
  const int warp_of_block = __shfl_sync(~0u, threadIdx.x >> 5, 0), group = warp_of_block >> 2, warp = warp_of_block & 3;
  const int lane = threadIdx.x & 31, g = lane >> 2, t = lane & 3;
  const int image = blockIdx.z / sizes.output_tiles, tile = blockIdx.z % sizes.output_tiles;
  const u32 shared = shared_address(memory);
  if (warp_of_block == 0 && lane == 0) {
    barrier_init(shared);
    for (int i = 0; i < 2 * PHASED; i++) barrier_init(shared + THERE + i * 8, 128);
    barriers_are_ready();
    bring_weights(shared, weights + (u64)tile * WEIGHT_BYTES);
  }
  const float2 added = *(const float2*)(bias + tile * 64 + warp * 16 + 2 * g);
  const int y_row = blockIdx.y * band, y_rows = min(band, sizes.height - y_row), rows = 2 * y_rows + 1;
  const int y_column = blockIdx.x * POOLED, conv_row = 2 * y_row - 1, conv_column = 2 * y_column - LEAD;
  const int in_row = conv_row * STRIDE_H - sizes.pad_h, in_column = conv_column * STRIDE_W - PAD_W - SHIFT;
  x += image * sizes.x_image;

  wait_for_previous();
  {
    Pixels<AT_FIRST, THREADS> first;
    first.load(sizes, x, in_row, in_column);
    first.keep(memory, 0);
  }
  let_next_start();
  __syncthreads();
  barrier_wait(shared, 0);

  // rows of the convolution that are, of the band's
  const int top = conv_row < 0 ? 1 : 0, bottom = sizes.conv_height - 1 - conv_row;
  const int chunk = threadIdx.x & 7;  // of 8 channels, that this thread stores
  const int columns = tile * 64 + chunk * 8 < sizes.outputs ? min(POOLED, sizes.width - y_column) : 0;
  y += image * sizes.y_image + (u32)(y_row * sizes.y_row + y_column * sizes.y_column + tile * 64 + chunk * 8);
  const u8* const kept = memory + KEPT_AT + LEAD / 2 * KEPT_COLUMN + chunk * 16;
  const auto store_row = [&](int r) {
    const u8* from[3];
    UNROLL for (int p = 0; p < 3; p++)  // the pooling's padding: a row within twice changes nothing
      from[p] = kept + min(max(2 * r + p, top), bottom) % KEPT_ROWS * KEPT_ROW;
    UNROLL for (int i = 0; i < (POOLED + 15) / 16; i++) {
      const int column = (threadIdx.x & 127) / 8 + i * 16;
      if (column >= columns) break;
      uint4 best = *(const uint4*)(from[0] + column * KEPT_COLUMN);
      UNROLL for (int p = 1; p < 3; p++) best = larger(best, *(const uint4*)(from[p] + column * KEPT_COLUMN));
      *(uint4*)(y + r * sizes.y_row + column * sizes.y_column) = best;
    }
  };

  u8* const mine = memory + KEPT_AT + t * KEPT_COLUMN + (warp * 16 + 2 * g) * 2;
  for (int row = group; row < rows; row += GROUPS) {
    const int next = row + GROUPS, first_new = next * STRIDE_H + KERNEL_H - STRIDE_H;
    Pixels<STRIDE_H, 128> pixels;
    if (next < rows) pixels.load(sizes, x, in_row + first_new, in_column);
    float d[COLUMNS / 2];
    UNROLL for (int i = 0; i < COLUMNS / 2; i++) d[i] = i & 2 ? added.y : added.x;
    settle(d);
    for (int back = min(row, 2 * GROUPS - 1); back >= GROUPS; back--) wait_until_row_is(shared + THERE, row - back);
    if (row > 0) wait_for_turn(group);
    multiply(d, shared, row * STRIDE_H % RING);
    if (row + 1 < rows) pass_turn_to(group + 1 < GROUPS ? group + 1 : 0);
    products_wait();
    settle(d);
    keep_row(d, mine + row % KEPT_ROWS * KEPT_ROW, conv_column < 0);
    row_is(shared + KEPT, row);
    if (next < rows) {
      pixels.keep(memory, first_new);
      row_is(shared + THERE, row);
    }
    if (row >= 2 && row % 2 == 0) {
      for (int p = 0; p < 3; p++) wait_until_row_is(shared + KEPT, row - p);
      store_row(row / 2 - 1);
    }
  }
}
