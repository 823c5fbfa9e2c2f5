// The first convolution of a network on pictures: few channels in (4 with a horizontal stride of 2, 8 with 1), as the
// user gives them (any layout, float32 or the element type), NHWC of the element type out, pooled if the network says so.
//
//     y = maximum over POOL_H x POOL_W of activation(conv(x, w) + bias)         (POOL 1x1: no pooling)
//
// A block makes ROWS rows of 64 columns of the convolution for 64 output channels, a warpgroup each row:
//
//     input rows in shared memory            a unit is 16 bytes: STRIDE_W pixels, padded with zero channels
//     | unit 0 | unit 1 | unit 2 | ...       output column j's window begins at unit j and is UNITS long, so that
//     <---- window of column 0 ---->         the matrix of all windows, 64 rows of K, is this very row, read with
//              <---- of column 1 ---->       steps of 16 bytes both down and along: im2col by wgmma's descriptor
//
// Set before this text: ELEMENT_IS_BFLOAT16, INPUT_IS_FLOAT, WHOLE (stem.cuh; x is float32 then), CHANNELS, KERNEL_H,
// KERNEL_W, STRIDE_H, STRIDE_W (1 or 2), ROWS (1 to 8), POOL_H, POOL_W, POOL_STRIDE_H, POOL_STRIDE_W, FINISH(a, b): two
// sums, activated and packed; LOW_FROM (the channel from which on y is what rounding those before lost; 0: none), and
// ACTIVATE(v): one sum, activated.
#include "latency.cuh"
#include "activations.cuh"
#include "stem.cuh"

constexpr int COLUMNS = 64;
constexpr int ROW_UNITS = COLUMNS - 1 + UNITS;
constexpr int IN_ROWS = (ROWS - 1) * STRIDE_H + KERNEL_H;
constexpr int OUT_ROWS = (ROWS - POOL_H) / POOL_STRIDE_H + 1;
constexpr int THREADS = 128 * ROWS;

// Shared memory: the barrier, the weights, the input rows, the convolution's result.
constexpr int INPUT_PART = IN_ROWS * ROW_UNITS * 16;
constexpr int RESULT_AT = INPUT_AT + (PARTS * INPUT_PART + 127) / 128 * 128;

// Pixels of the block's input rows, with zeros around the picture.
DEVICE void load_rows(const Sizes& sizes, const Input* x, u8* memory, int top, int left) {
  constexpr int PIXELS = IN_ROWS * ROW_UNITS * STRIDE_W, ROUNDS = (PIXELS + THREADS - 1) / THREADS;
  Input v[ROUNDS][CHANNELS];
  UNROLL for (int i = 0; i < ROUNDS; i++) {  // all loads before the first store, to be on their way together
    const int pixel = threadIdx.x + i * THREADS, r = pixel / (ROW_UNITS * STRIDE_W), c = pixel % (ROW_UNITS * STRIDE_W);
    const int row = top + r, column = left + c;
    const bool inside = pixel < PIXELS && row >= 0 && row < sizes.in_height && column >= 0 && column < sizes.in_width;
    UNROLL for (int channel = 0; channel < CHANNELS; channel++)
      v[i][channel] = inside ? x[row * sizes.x_row + column * sizes.x_column + channel * sizes.x_channel] : (Input)0;
  }
  UNROLL for (int i = 0; i < ROUNDS; i++) {
    const int pixel = threadIdx.x + i * THREADS;
    if (pixel < PIXELS) keep_pixel(memory + INPUT_AT + pixel * (UNIT_CHANNELS * 2), v[i], INPUT_PART);
  }
}

// Grid: (tiles of `columns` across y, tiles of OUT_ROWS down y, images x tiles of 64 output channels).
// `weights` as tactics/stem_conv.py packs them; `bias` float32, padded to whole tiles of 64.
extern "C" __global__ void __launch_bounds__(THREADS)
    stem(const Input* x, const u8* weights, const float* bias, u16* y, const __grid_constant__ Sizes sizes) {
  extern __shared__ __align__(1024) u8 memory[];
  const int warp_of_block = __shfl_sync(~0u, threadIdx.x >> 5, 0), group = warp_of_block >> 2, warp = warp_of_block & 3;
  const int lane = threadIdx.x & 31, g = lane >> 2, t = lane & 3;
  const int image = blockIdx.z / sizes.output_tiles, tile = blockIdx.z % sizes.output_tiles;
  const u32 shared = shared_address(memory);
  if (warp_of_block == 0 && is_elected()) {
    barrier_init(shared);
    barriers_are_ready();
    barrier_expect(shared, WEIGHT_BYTES);
    copy_to_shared(shared + WEIGHTS_AT, weights + (u64)tile * WEIGHT_BYTES, WEIGHT_BYTES, shared);
  }
  const float2 added = *(const float2*)(bias + tile * 64 + warp * 16 + 2 * g);
  // the first row and column of the convolution that y's first ones here need
  const int conv_row = blockIdx.y * (OUT_ROWS * POOL_STRIDE_H) - sizes.pool_pad_h;
  const int conv_column = blockIdx.x * sizes.columns * POOL_STRIDE_W - sizes.pool_pad_w;

  wait_for_previous();
  load_rows(sizes, x + image * sizes.x_image, memory, conv_row * STRIDE_H - sizes.pad_h,
            conv_column * STRIDE_W - sizes.pad_w);
  let_next_start();
  fence_for_async();
  __syncthreads();
  barrier_wait(shared, 0);

  float d[32];
  UNROLL for (int i = 0; i < 32; i++) d[i] = 0.f;
  const u64 a = matrix(shared + WEIGHTS_AT, 1024, 128, NONE);
  const u64 b = matrix(shared + INPUT_AT + group * STRIDE_H * ROW_UNITS * 16, 16, 128, NONE);
  products_begin();
  UNROLL for (int p = 0; p < PRODUCTS; p++)
    UNROLL for (int r = 0; r < KERNEL_H; r++) UNROLL for (int k = 0; k < UNITS; k += 2) {
      const int step = (r * UNITS + k) / 2;
      multiply_add(d, a + weight_part(p) + step * 128, b + input_part(p, INPUT_PART) + r * ROW_UNITS + k, p + step > 0);
    }
  products_end();
  settle(d);

  const bool low = LOW_FROM && tile * 64 + warp * 16 + 2 * g >= LOW_FROM;
  u8* result = memory + RESULT_AT + group * COLUMNS * RESULT_COLUMN + (warp * 16 + 2 * g) * 2;
  UNROLL for (int j = 0; j < 8; j++) UNROLL for (int h = 0; h < 2; h++) {
    const float first = d[4 * j + h] + added.x, second = d[4 * j + 2 + h] + added.y;
    *(u32*)(result + (8 * j + 2 * t + h) * RESULT_COLUMN) = finished(first, second, low);
  }
  __syncthreads();

  for (int item = threadIdx.x; item < OUT_ROWS * sizes.columns * 8; item += THREADS) {
    const int chunk = item & 7, column = item / 8 % sizes.columns, r = item / 8 / sizes.columns;
    const int row = blockIdx.y * OUT_ROWS + r, out_column = blockIdx.x * sizes.columns + column;
    if (row >= sizes.height || out_column >= sizes.width || tile * 64 + chunk * 8 >= sizes.outputs) continue;
    uint4 best;
    bool any = false;
    UNROLL for (int p = 0; p < POOL_H; p++) UNROLL for (int q = 0; q < POOL_W; q++) {
      const int cr = r * POOL_STRIDE_H + p, cc = column * POOL_STRIDE_W + q;
      if (conv_row + cr < 0 || conv_row + cr >= sizes.conv_height) continue;  // the pooling's padding
      if (conv_column + cc < 0 || conv_column + cc >= sizes.conv_width) continue;
      const uint4 v = *(const uint4*)(memory + RESULT_AT + (cr * COLUMNS + cc) * RESULT_COLUMN + chunk * 16);
      best = any ? larger(best, v) : v;
      any = true;
    }
    if (any)
      store16(y + image * sizes.y_image + (u32)(row * sizes.y_row + out_column * sizes.y_column + tile * 64 + chunk * 8),
              best);
  }
}
