// Two 1x1 convolutions one behind the other at small batches on Hopper, both results wanted, in one launch, NHWC:
//
//     y = activation(conv(x, w) [+ conv(x2, w2)] + bias [+ residual])         z = next activation(conv(y, v) + next bias)
//
// as where a residual block expands and the next one reduces. What hopper_latency_conv.cu says of latency, tiles of pixels
// and packed weights holds here too. A cluster makes a tile of pixels; its block `rank` makes the tile's y for the channels
// rank * OWN * 64 ..., a warpgroup each 64, and has them in shared memory as the second product wants them:
//
//     x tile -> y's share, activated, in the staging area -> y                 all of x's channels, a share of y's
//                         |
//                         +-> share of z's sums (all of z's channels, this share of y's) -> owners -> z
//
// so y is read by nobody here, and one launch's start and one reading of y from the L2 are saved.
//
// Set before this text: ELEMENT_IS_BFLOAT16, BLOCKS (of 64 channels of x and x2), SPLITS (blocks of a cluster: 1, 2, 4, 8),
// OWN (1, 2 or 4: warpgroups), NEXT_TILES (of 64 channels of z), TILE_ROWS (1 to 8), HALF_PARTIALS, RESIDUAL, PAIR, PAIR_FROM
// (the channel from which on they are x2's), PAIR_STRIDE_H, PAIR_STRIDE_W, FINISH(a, b), NEXT_FINISH(a, b): two sums,
// activated and packed.
#include "latency.cuh"
#include "activations.cuh"

struct Sizes {
  int outputs, next_outputs, height, width;  // channels of y and z; both have the same pixels
  int columns;                               // of a tile that are used, at most 8
  int tiles_down;                            // tiles above one another in a picture
  int y_pixel, y_row, z_pixel, z_row;        // steps in elements
  u64 y_image, z_image;
};

constexpr int STAGE_BYTES = TILE_ROWS * 8 * 128;  // 64 channels of a tile, a row of 128 bytes a pixel, swizzled
constexpr int STEPS = BLOCKS * 4, NEXT_STEPS = OWN * 4;  // of wgmma
constexpr int WEIGHT_BYTES = STEPS * 2048, NEXT_BYTES = NEXT_STEPS * 2048;  // of 64 channels of y and of z
constexpr int ROUNDS = (STAGE_BYTES / 16 + 127) / 128;  // stores of a thread for 64 channels of y
constexpr int NEXT_EACH = (NEXT_TILES + OWN - 1) / OWN;  // tiles of z that a warpgroup sums

// Sums of the cluster, as in hopper_latency_conv.cu.
constexpr int PADDED_ROWS = TILE_ROWS > 4 ? 8 : TILE_ROWS > 2 ? 4 : TILE_ROWS;
constexpr int SHARE = PADDED_ROWS * 128 / SPLITS, SHARE_ROUNDS = (SHARE + 127) / 128;
constexpr int UNIT_BYTES = HALF_PARTIALS ? 8 : 16;
constexpr int OWN_SUMS_AT = SPLITS * SHARE * UNIT_BYTES, LANDING_BYTES = OWN_SUMS_AT + SHARE * 16;
static_assert(SHARE >= 32 && (SPLITS & (SPLITS - 1)) == 0, "a warp's units of a row must have one owner");

// Shared memory: 1 KiB of barriers, both weights, the tile of x, the staging area of y, what z is finished in.
constexpr int WEIGHTS_AT = 1024, NEXT_AT = WEIGHTS_AT + OWN * WEIGHT_BYTES;
constexpr int TILE_AT = NEXT_AT + NEXT_TILES * NEXT_BYTES, STAGE_AT = TILE_AT + BLOCKS * STAGE_BYTES;
constexpr int FINISH_AT = STAGE_AT + OWN * STAGE_BYTES;
constexpr int WEIGHT_BARRIER = 0, NEXT_BARRIER = 8, LANDING_BARRIER = 16, RESIDUAL_BARRIER = 24, PIXEL_BARRIER = 64;
static_assert(PIXEL_BARRIER + 8 * BLOCKS <= 1024, "the barriers must fit into their KiB");

struct Place {
  int thread, warp, group, lane;  // in the warpgroup; its warp; which warpgroup; in the warp
  int rank, column, row, image;   // first column and row of the tile
  u32 shared;
};

DEVICE void fetch_weights(const Place& at, const u8* weights, const u8* next_weights) {
  constexpr int PIECE = 16384;
  barrier_expect(at.shared + WEIGHT_BARRIER, OWN * WEIGHT_BYTES);
  for (int k = 0; k < OWN * WEIGHT_BYTES; k += PIECE)  // a block's tiles of y lie behind one another
    copy_to_shared(at.shared + WEIGHTS_AT + k, weights + (u64)at.rank * (OWN * WEIGHT_BYTES) + k,
                   min(PIECE, OWN * WEIGHT_BYTES - k), at.shared + WEIGHT_BARRIER);
  barrier_expect(at.shared + NEXT_BARRIER, NEXT_TILES * NEXT_BYTES);
  for (int tile = 0; tile < NEXT_TILES; tile++)
    copy_to_shared(at.shared + NEXT_AT + tile * NEXT_BYTES, next_weights + (u64)(tile * SPLITS + at.rank) * NEXT_BYTES,
                   NEXT_BYTES, at.shared + NEXT_BARRIER);
}

// Announces what `fetch_tile` and the other blocks will bring.
DEVICE void expect_all(const Place& at) {
  UNROLL for (int block = 0; block < BLOCKS; block++) barrier_expect(at.shared + PIXEL_BARRIER + 8 * block, STAGE_BYTES);
  if (RESIDUAL) barrier_expect(at.shared + RESIDUAL_BARRIER, OWN * STAGE_BYTES);
  const int units = TILE_ROWS * 128 - at.rank * SHARE;  // none for the rows that only pad
  if (SPLITS > 1)
    barrier_expect(at.shared + LANDING_BARRIER,
                   (units < 0 ? 0 : units < SHARE ? units : SHARE) * (SPLITS - 1) * UNIT_BYTES * NEXT_TILES);
}

DEVICE void fetch_tile(const Place& at, const TensorMap* x, const TensorMap* pair, const TensorMap* residual) {
  UNROLL for (int block = 0; block < BLOCKS; block++) {
    const u32 target = at.shared + TILE_AT + block * STAGE_BYTES, barrier = at.shared + PIXEL_BARRIER + 8 * block;
    if (PAIR && block * 64 >= PAIR_FROM)
      copy_box(target, pair, block * 64 - PAIR_FROM, at.column * PAIR_STRIDE_W, at.row * PAIR_STRIDE_H, at.image, barrier);
    else
      copy_box(target, x, block * 64, at.column, at.row, at.image, barrier);
  }
  if (RESIDUAL)
    UNROLL for (int group = 0; group < OWN; group++)
      copy_box(at.shared + STAGE_AT + group * STAGE_BYTES, residual, (at.rank * OWN + group) * 64, at.column, at.row,
               at.image, at.shared + RESIDUAL_BARRIER);
}

// Sums as wgmma left them, activated, into a staging area in the copy engine's swizzle; to what lies there, if `add`.
#define STAGE(NAME, ACTIVATED)                                                                                     \
  DEVICE void NAME(const Place& at, u8* stage, const float (&d)[4 * TILE_ROWS], float2 bias, bool add) {           \
    const int g = at.lane >> 2, t = at.lane & 3, chunk = 2 * at.warp + (g >> 2);                                   \
    u8* even = stage + 2 * t * 128 + ((chunk ^ 2 * t) << 4) + (g & 3) * 4;                                         \
    u8* odd = stage + (2 * t + 1) * 128 + ((chunk ^ (2 * t + 1)) << 4) + (g & 3) * 4;                              \
    u32 there[2 * TILE_ROWS];                                                                                      \
    if (add) UNROLL for (int i = 0; i < 2 * TILE_ROWS; i++)                                                        \
        there[i] = *(const u32*)((i & 1 ? odd : even) + i / 2 * 1024);                                             \
    UNROLL for (int i = 0; i < 2 * TILE_ROWS; i++) {                                                               \
      const float2 r = add ? unpack(there[i]) : make_float2(0.f, 0.f);                                             \
      const float first = d[i / 2 * 4 + (i & 1)] + bias.x + r.x, second = d[i / 2 * 4 + 2 + (i & 1)] + bias.y + r.y; \
      *(u32*)((i & 1 ? odd : even) + i / 2 * 1024) = ACTIVATED(first, second);                                     \
    }                                                                                                              \
  }
STAGE(stage_y, FINISH)
STAGE(stage_z, NEXT_FINISH)

// 64 channels from a staging area to an output, of which `tile` points to the tile's first pixel and channel.
DEVICE void store_staged(const Place& at, const Sizes& sizes, const u8* stage, u16* tile, int pixel, int row, int channels) {
  const u8* source = stage + (at.thread >> 3) * 128 + (((at.thread & 7) ^ (at.thread >> 3 & 7)) << 4);
  uint4 v[ROUNDS];
  UNROLL for (int i = 0; i < ROUNDS; i++)
    if (at.thread + i * 128 < STAGE_BYTES / 16) v[i] = *(const uint4*)(source + i * 2048);
  UNROLL for (int i = 0; i < ROUNDS; i++) {
    const int item = at.thread + i * 128, down = item >> 6, column = item >> 3 & 7, channel = (item & 7) * 8;
    const bool inside = item < STAGE_BYTES / 16 && column < sizes.columns && at.column + column < sizes.width &&
                        at.row + down < sizes.height && channel < channels;
    store16_if(inside, tile + (u32)(down * row + column * pixel + channel), v[i]);
  }
}

// A tile of z's sums to their owners.
DEVICE void push(const Place& at, u8* memory, const float (&d)[4 * TILE_ROWS], int tile) {
  const u32 landing = at.shared + FINISH_AT + tile * LANDING_BYTES, barrier = at.shared + LANDING_BARRIER;
  UNROLL for (int j = 0; j < TILE_ROWS; j++) {
    const int owner = SHARE >= 128 ? j * 128 / SHARE : (j * 128 + at.warp * 32) / SHARE;
    const int unit = SHARE >= 128 ? j * 128 % SHARE + at.thread : at.thread % SHARE;
    const float* sum = d + 4 * j;
    if (owner == at.rank) {
      *(float4*)(memory + (landing - at.shared) + OWN_SUMS_AT + unit * 16) = make_float4(sum[0], sum[1], sum[2], sum[3]);
      continue;
    }
    const u32 there = address_in(owner, barrier);
    const u32 target = there + (landing - barrier) + (at.rank * SHARE + unit) * UNIT_BYTES;
    if (HALF_PARTIALS)
      push8(target, make_uint2(pack_float16(sum[0], sum[1]), pack_float16(sum[2], sum[3])), there);
    else
      push16(target, make_uint4(__float_as_uint(sum[0]), __float_as_uint(sum[1]), __float_as_uint(sum[2]),
                                __float_as_uint(sum[3])), there);
  }
}

// This block's share of a tile of z, whose sums have landed: added, activated, stored.
DEVICE void store_landed(const Place& at, const Sizes& sizes, const u8* memory, const float* bias, u16* z, int tile) {
  const u8* landed = memory + FINISH_AT + tile * LANDING_BYTES;
  UNROLL for (int i = 0; i < SHARE_ROUNDS; i++) {
    const int unit = SHARE >= 128 ? at.thread + i * 128 : at.thread % SHARE, whole = at.rank * SHARE + unit;
    float4 sum = *(const float4*)(landed + OWN_SUMS_AT + unit * 16);
    UNROLL for (int other = 1; other < SPLITS; other++) {
      const u8* from = landed + (((at.rank + other) & (SPLITS - 1)) * SHARE + unit) * UNIT_BYTES;
      float4 more;
      if (HALF_PARTIALS) {
        const uint2 v = *(const uint2*)from;
        const float2 a = unpack_float16(v.x), b = unpack_float16(v.y);
        more = make_float4(a.x, a.y, b.x, b.y);
      } else {
        more = *(const float4*)from;
      }
      sum.x += more.x, sum.y += more.y, sum.z += more.z, sum.w += more.w;
    }
    // A unit is two channels of two pixels: lanes g and g ^ 1 swap halves, so that each has four channels of one pixel.
    const bool odd = at.lane >> 2 & 1;
    const float a = __shfl_xor_sync(~0u, odd ? sum.x : sum.y, 4), b = __shfl_xor_sync(~0u, odd ? sum.z : sum.w, 4);
    const float4 v = odd ? make_float4(a, b, sum.y, sum.w) : make_float4(sum.x, sum.z, a, b);
    const int down = whole >> 7, owner = whole & 127, g = owner >> 2 & 7, column = 2 * (owner & 3) + (g & 1);
    const int channel = tile * 64 + (owner >> 5) * 16 + 2 * (g & ~1);
    const float4 added = *(const float4*)(bias + channel);
    const bool inside = (SHARE >= 128 || at.thread < SHARE) && down < TILE_ROWS && column < sizes.columns &&
                        at.column + column < sizes.width && at.row + down < sizes.height && channel < sizes.next_outputs;
    store8_if(inside, z + (u32)((at.row + down) * sizes.z_row + (at.column + column) * sizes.z_pixel + channel),
              make_uint2(NEXT_FINISH(v.x + added.x, v.y + added.y), NEXT_FINISH(v.z + added.z, v.w + added.w)));
  }
}

// Grid: (SPLITS; tiles across; images x tiles down). Weights as tactics/latency_couple.py packs them; biases float32,
// padded to whole tiles of 64. `later_weights` are another launch's, to be asked for.
extern "C" __global__ void __launch_bounds__(128 * OWN)
    couple(const __grid_constant__ TensorMap x, const __grid_constant__ TensorMap pair,
           const __grid_constant__ TensorMap residual, const u8* weights, const float* bias, const u8* next_weights,
           const float* next_bias, u16* y, u16* z, const __grid_constant__ Sizes sizes, const u8* later_weights,
           const __grid_constant__ Later later) {
  extern __shared__ __align__(1024) u8 memory[];
  const int warp = __shfl_sync(~0u, threadIdx.x >> 5, 0);
  Place at;
  at.thread = threadIdx.x & 127, at.lane = threadIdx.x & 31, at.warp = warp & 3, at.group = OWN > 1 ? warp >> 2 : 0;
  at.rank = SPLITS > 1 ? blockIdx.x : 0, at.column = blockIdx.y * sizes.columns, at.shared = shared_address(memory);
  at.image = blockIdx.z / sizes.tiles_down, at.row = (blockIdx.z - at.image * sizes.tiles_down) * TILE_ROWS;

  if (warp == 0 && is_elected()) {
    for (int offset = WEIGHT_BARRIER; offset <= RESIDUAL_BARRIER; offset += 8) barrier_init(at.shared + offset);
    UNROLL for (int block = 0; block < BLOCKS; block++) barrier_init(at.shared + PIXEL_BARRIER + 8 * block);
    barriers_are_ready();
    fetch_weights(at, weights, next_weights);
    expect_all(at);
    prefetch_map(&x);
    if (PAIR) prefetch_map(&pair);
    if (RESIDUAL) prefetch_map(&residual);
  }
  __syncwarp();
  const int channel = (at.rank * OWN + at.group) * 64, mine = at.warp * 16 + 2 * (at.lane >> 2);
  const float2 added = *(const float2*)(bias + channel + mine);
  if (SPLITS > 1) {
    cluster_arrive_relaxed();  // no block may push before the others' barriers are ready
    cluster_wait();
  } else {
    __syncthreads();
  }

  wait_for_previous();
  if (warp == 0 && is_elected()) fetch_tile(at, &x, &pair, &residual);
  let_next_start();
  if (warp == 1 && is_elected()) ask_for_later(later_weights, later);

  float d[4 * TILE_ROWS];
  UNROLL for (int i = 0; i < 4 * TILE_ROWS; i++) d[i] = 0.f;
  barrier_wait(at.shared + WEIGHT_BARRIER, 0);
  const u64 a = matrix(at.shared + WEIGHTS_AT + at.group * WEIGHT_BYTES, 1024, 128, NONE);
  const u64 b = matrix(at.shared + TILE_AT, 16, 1024, BYTES_128);
  products_begin();
  UNROLL for (int block = 0; block < BLOCKS; block++) {
    barrier_wait(at.shared + PIXEL_BARRIER + 8 * block, 0);
    UNROLL for (int k = 0; k < 4; k++)
      multiply_add(d, a + (block * 4 + k) * 128, b + (block * STAGE_BYTES + k * 32 >> 4), block + k > 0);
  }
  products_end();
  settle(d);

  u8* stage = memory + STAGE_AT + at.group * STAGE_BYTES;
  if (RESIDUAL) barrier_wait(at.shared + RESIDUAL_BARRIER, 0);
  stage_y(at, stage, d, added, RESIDUAL);
  fence_for_async();
  __syncthreads();  // the second product reads all warpgroups' channels

  float sums[NEXT_EACH][4 * TILE_ROWS];
  UNROLL for (int n = 0; n < NEXT_EACH; n++) UNROLL for (int i = 0; i < 4 * TILE_ROWS; i++) sums[n][i] = 0.f;
  barrier_wait(at.shared + NEXT_BARRIER, 0);
  const u64 staged = matrix(at.shared + STAGE_AT, 16, 1024, BYTES_128);
  products_begin();
  UNROLL for (int n = 0; n < NEXT_EACH; n++) {
    const int tile = at.group + n * OWN;
    const u64 v = matrix(at.shared + NEXT_AT + min(tile, NEXT_TILES - 1) * NEXT_BYTES, 1024, 128, NONE);
    UNROLL for (int k = 0; k < NEXT_STEPS; k++)
      multiply_add(sums[n], v + k * 128, staged + (k / 4 * STAGE_BYTES + k % 4 * 32 >> 4), k > 0);
  }
  products_start();
  store_staged(at, sizes, stage,
               y + at.image * sizes.y_image + (u32)(at.row * sizes.y_row + at.column * sizes.y_pixel + channel),
               sizes.y_pixel, sizes.y_row, sizes.outputs - channel);
  products_wait();
  UNROLL for (int n = 0; n < NEXT_EACH; n++) settle(sums[n]);

  u16* const z_image = z + at.image * sizes.z_image;
  if (SPLITS == 1) {
    UNROLL for (int n = 0; n < NEXT_EACH; n++) {
      const int tile = at.group + n * OWN;
      if (tile >= NEXT_TILES) continue;
      u8* finished = memory + FINISH_AT + tile * STAGE_BYTES;
      stage_z(at, finished, sums[n], *(const float2*)(next_bias + tile * 64 + mine), false);
      sync_warpgroup(at.group);
      store_staged(at, sizes, finished,
                   z_image + (u32)(at.row * sizes.z_row + at.column * sizes.z_pixel + tile * 64), sizes.z_pixel,
                   sizes.z_row, sizes.next_outputs - tile * 64);
    }
  } else {
    UNROLL for (int n = 0; n < NEXT_EACH; n++)
      if (at.group + n * OWN < NEXT_TILES) push(at, memory, sums[n], at.group + n * OWN);
    sync_warpgroup(at.group);
    barrier_wait(at.shared + LANDING_BARRIER, 0);
    UNROLL for (int n = 0; n < NEXT_EACH; n++)
      if (at.group + n * OWN < NEXT_TILES) store_landed(at, sizes, memory, next_bias, z_image, at.group + n * OWN);
  }
}
