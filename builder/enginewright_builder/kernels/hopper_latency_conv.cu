// Convolution for small batches on Hopper: y = activation(conv(x, w) + bias + residual), NHWC, one kernel a layer.
//
// At batch 1 a layer has too few pixels to fill the chip, and its time is latency, not arithmetic. So all that does not
// depend on the previous layer (a block's weights, whole) is fetched before waiting for it, each pixel is fetched once,
// and the sum over input channels is split over the blocks of a cluster.
//
//     output channels are the rows (M = 64 a warpgroup), pixels the columns (N = 8 TILE_ROWS), channels and taps K
//
//         a tile of outputs                    the tile of inputs under it, here for 3x3, stride 1, in shared memory
//         <- 8 columns ->                      <--- 10 columns --->    one row of 128 bytes a pixel: 64 channels, in the
//       ^ o o o o o o o o                    ^ x x x x x x x x x x     copy engine's 128-byte swizzle; what lies outside
//       | o o o o o o o o  TILE_ROWS         | x x x x x x x x x x     of the picture comes as zeros
//       v o o o o o o o o                    | x x x x x x x x x x
//                                            | x x x x x x x x x x     tap (r, s) needs the 8 x TILE_ROWS pixels from
//                                            v x x x x x x x x x x     (r, s) on: the same tile, another start address
//
// With a horizontal stride the columns are fetched in parts, each with the columns of one residue, so that neighbours
// in a part are neighbouring outputs' inputs. A channel count that is no multiple of a block is filled with zeros.
//
//     the cluster: SPLITS blocks, block `rank` sums channels rank * BLOCKS * BLOCK_CHANNELS ... and then owns a share of
//     the tile's rows; each pushes its partial sums of a row into the owner's shared memory, the owner adds and stores
//
// A block may work through `walk` tiles with the same weights, the next tile on its way meanwhile (WALK), or through some
// at a time (ABREAST), each by warpgroups of its own: one's products hide what another waits for.
//
//     weights  [ 64 outputs x all steps ] [ the next 64 outputs ]      warpgroups: slot 0 [ group 0 ] [ group 1 ]
//     buffers  [ tile of slot 0 ] [ tile of slot 1 ]                               slot 1 [ group 0 ] [ group 1 ]
//
// The weights come whole or in PIECES (a row of taps of BLOCK_CHANNELS each), in the order in which they are multiplied, so
// that products need not wait for all of them: the first EARLY pieces before the wait for the previous kernel, the rest
// after the pixels, since what the copy engine is asked for comes one after the other. Where only SLOTS of them are held at
// a time (a tap of BLOCK_CHANNELS each), another takes the place of one that all warps have multiplied.
// POOL: 2x2 max pooling at the end, stride 2, no padding. A tile has even rows and columns then, and a window's four
// results are two neighbouring columns of a thread's own in two rows of its own, so that a quarter of them is stored.
// MEAN: the mean over all pixels at the end, of pictures of one tile by one block (SPLITS 1); only that is stored.
// PAIR: a second, 1x1 convolution of another input (a residual block's downsampling) is summed as further channels.
//
// Set before this text: ELEMENT_IS_BFLOAT16, KERNEL_H, KERNEL_W, STRIDE_H, STRIDE_W, PAD_H, PAD_W, DILATION_H,
// DILATION_W, BLOCK_CHANNELS (16, 32 or 64), BLOCKS, SPLITS (1, 2, 4, 8), TILE_ROWS (1 to 8), WARPGROUPS (of a tile,
// each with 64 outputs), ABREAST, PIECES, SLOTS, EARLY, HALF_PARTIALS, RESIDUAL, PAIR, PAIR_FROM (the channel from which
// on they are the pair's), PAIR_STRIDE_H, PAIR_STRIDE_W, POOL, MEAN, WALK, BATCH (whether there may be several images),
// FINISH(a, b, r): two sums with their residuals r, activated and packed.
#include "latency.cuh"
#include "activations.cuh"

struct Sizes {
  int outputs, height, width;  // of y
  int columns;                 // of a tile of sums that are used, at most 8
  int tiles_down;              // tiles above one another in a picture
  int items, walk;             // pictures x tiles_down; how many of them a block works through one after another
  int y_pixel, y_row, residual_pixel, residual_row;  // steps in elements
  u64 y_image, residual_image;
};

DEVICE constexpr int largest_residue() {
  int largest = 0;
  for (int s = 0; s < KERNEL_W; s++) largest = s * DILATION_W % STRIDE_W > largest ? s * DILATION_W % STRIDE_W : largest;
  return largest;
}

// The tile of inputs. A kernel of one row skips the rows that it does not need.
constexpr int PARTS = largest_residue() + 1;
constexpr int IN_COLUMNS = 8 + (KERNEL_W - 1) * DILATION_W / STRIDE_W;
constexpr int ROW_STEP = KERNEL_H == 1 ? 1 : STRIDE_H;
constexpr int IN_ROWS = (TILE_ROWS - 1) * ROW_STEP + (KERNEL_H - 1) * DILATION_H + 1;
constexpr int PIXEL_BYTES = BLOCK_CHANNELS * 2;
constexpr int PART_BYTES = (IN_ROWS * IN_COLUMNS * PIXEL_BYTES + 1023) / 1024 * 1024;
constexpr int BLOCK_BYTES = PARTS * PART_BYTES;
constexpr int ARRIVING_BYTES = PARTS * IN_ROWS * IN_COLUMNS * PIXEL_BYTES;
constexpr Swizzle SWIZZLE = BLOCK_CHANNELS == 64 ? BYTES_128 : BLOCK_CHANNELS == 32 ? BYTES_64 : BYTES_32;

// Sums of the cluster: a *unit* is a thread's four sums of one row of pixels; TILE_ROWS, padded to a power of two, times
// 128 units are shared out evenly. A landing area holds a share from each other block.
constexpr int PADDED_ROWS = TILE_ROWS > 4 ? 8 : TILE_ROWS > 2 ? 4 : TILE_ROWS;
constexpr int SHARE = PADDED_ROWS * 128 / SPLITS;
constexpr int UNIT_BYTES = HALF_PARTIALS ? 8 : 16;
constexpr int LANDING_BYTES = (SPLITS - 1) * SHARE * UNIT_BYTES;
static_assert(!POOL || (TILE_ROWS % 2 == 0 && (SPLITS == 1 || SHARE % 256 == 0)), "both rows of a window have one owner");
static_assert(!MEAN || (SPLITS == 1 && !POOL), "one block has all pixels of its channels");
static_assert(SHARE >= 32 && (SPLITS & (SPLITS - 1)) == 0, "a warp's units of a row must have one owner");

// Shared memory: 1 KiB of barriers, the weights, then one buffer or two: tile of inputs, then the outputs' staging area
// (one block a cluster) or the landing area.
constexpr int STEPS = KERNEL_H * KERNEL_W * BLOCKS * BLOCK_CHANNELS / 16;
constexpr int WEIGHT_BYTES = STEPS * 64 * 16 * 2;  // of one warpgroup
constexpr int TILE_BYTES = BLOCKS * BLOCK_BYTES;
constexpr int SHRUNK = POOL ? 2 : 1;
constexpr int STAGE_COLUMNS = 8 / SHRUNK, STAGE_BYTES = TILE_ROWS / SHRUNK * STAGE_COLUMNS * 64 * 2;
constexpr int FINISH_BYTES = SPLITS == 1 ? STAGE_BYTES : LANDING_BYTES;
constexpr int BUFFER_BYTES = TILE_BYTES + (FINISH_BYTES * WARPGROUPS + 1023) / 1024 * 1024;
constexpr int BUFFERS = WALK ? 2 : ABREAST;
static_assert(!WALK || (ABREAST == 1 && SLOTS == PIECES), "tiles come one after the other or abreast");
constexpr int PIECE_BYTES = WEIGHT_BYTES / PIECES, PIECE_STEPS = STEPS / PIECES;  // of one warpgroup's weights
constexpr int HELD_BYTES = PIECE_BYTES * SLOTS;
constexpr int WEIGHTS_AT = 1024, BUFFERS_AT = WEIGHTS_AT + HELD_BYTES * WARPGROUPS;
constexpr bool RING = SLOTS < PIECES;
constexpr int LANDING_BARRIERS = 0, RESIDUAL_BARRIERS = 8 * BUFFERS, PIXEL_BARRIERS = 16 * BUFFERS;
constexpr int WEIGHT_BARRIERS = PIXEL_BARRIERS + 8 * BUFFERS * BLOCKS;
constexpr int FREE_BARRIERS = WEIGHT_BARRIERS + 8 * SLOTS;
static_assert(FREE_BARRIERS + 8 * (RING ? SLOTS : 0) <= 1024, "the barriers must fit into their KiB");

constexpr int ROUNDS = SPLITS == 1 ? (STAGE_BYTES / 16 + 127) / 128 : (SHARE + 127) / 128;  // stores of a thread

struct Maps {
  const TensorMap *x, *pair, *residual;
};

// Where a thread is and what it works on.
struct Place {
  int thread, warp, lane;             // in the warpgroup; its warp; in the warp
  int warpgroup, slot, group;         // in the block; which tile is its; which of the tile's warpgroups it is
  int rank, first, channel, column;   // first tile of output channels of the block; the warpgroup's channel; its column
  u32 shared;                         // where the block's shared memory begins
  const u8* weights;                  // of the block's first warpgroup
  u64 policy;                         // of the L2 cache for them
  bool leads;                         // the warp whose elected thread starts the copies of a tile
};

DEVICE u32 buffer_at(const Place& at, int buffer) { return at.shared + BUFFERS_AT + buffer * BUFFER_BYTES; }
DEVICE u32 finish_at(const Place& at, int buffer) {
  return buffer_at(at, buffer) + TILE_BYTES + at.group * FINISH_BYTES;
}
DEVICE u32 pixel_barrier(const Place& at, int buffer, int block) {
  return at.shared + PIXEL_BARRIERS + 8 * (buffer * BLOCKS + block);
}
DEVICE u32 landing_barrier(const Place& at, int buffer) { return at.shared + LANDING_BARRIERS + 8 * buffer; }
DEVICE u32 residual_barrier(const Place& at, int buffer) { return at.shared + RESIDUAL_BARRIERS + 8 * buffer; }
DEVICE u32 weight_barrier(const Place& at, int slot) { return at.shared + WEIGHT_BARRIERS + 8 * slot; }
DEVICE u32 free_barrier(const Place& at, int slot) { return at.shared + FREE_BARRIERS + 8 * slot; }

// Bytes that the other blocks push into this one: nothing for the rows that only pad.
DEVICE int landing_bytes(const Place& at) {
  const int units = TILE_ROWS * 128 - at.rank * SHARE;
  return (units < 0 ? 0 : units < SHARE ? units : SHARE) * (SPLITS - 1) * UNIT_BYTES * WARPGROUPS;
}

#include "latency_conv_fetch.cuh"

// d = the weights times the tile's pixels, over this block's channels and all taps.
DEVICE void multiply(const Place& at, float (&d)[4 * TILE_ROWS], int buffer, int parity) {
  const u64 a = matrix(at.shared + WEIGHTS_AT + at.group * HELD_BYTES, 1024, 128, NONE);
  const u64 b = matrix(buffer_at(at, buffer), 16, ROW_STEP * IN_COLUMNS * PIXEL_BYTES, SWIZZLE);
  int step = 0;
  barrier_wait(weight_barrier(at, 0), 0);  // mostly they are there before the pixels
  products_begin();
  UNROLL for (int block = 0; block < BLOCKS; block++) {
    barrier_wait(pixel_barrier(at, buffer, block), parity);
    UNROLL for (int r = 0; r < KERNEL_H; r++)
      UNROLL for (int s = 0; s < KERNEL_W; s++)
        UNROLL for (int k = 0; k < BLOCK_CHANNELS; k += 16, step++) {
          const int part = s * DILATION_W % STRIDE_W, column = s * DILATION_W / STRIDE_W;
          const int offset = block * BLOCK_BYTES + part * PART_BYTES +
                             (r * DILATION_H * IN_COLUMNS + column) * PIXEL_BYTES + k * 2;
          const int piece = step / PIECE_STEPS, slot = piece % SLOTS, within = step % PIECE_STEPS;
          if (piece > 0 && within == 0) barrier_wait(weight_barrier(at, slot), piece / SLOTS & 1);
          multiply_add(d, a + (slot * PIECE_STEPS + within) * 128, b + (offset >> 4), step > 0);
          if (RING && within == PIECE_STEPS - 1) {
            products_start();
            if (piece > 0) replace_weights(at, piece - 1);
          }
        }
  }
  products_end();
  settle(d);
}

#include "latency_conv_finish.cuh"

// Grid: (tiles of output channels / WARPGROUPS x SPLITS, the rank fastest; tiles across; items / walk or / ABREAST).
// `weights` as tactics/hopper_latency_conv.py packs them; `bias` float32, padded to whole tiles of 64. `later_weights`
// are another launch's, to be asked for; how the L2 cache keeps both weights says `first_to_leave`.
extern "C" __global__ void __launch_bounds__(128 * WARPGROUPS * ABREAST)
    convolution(const __grid_constant__ TensorMap x, const __grid_constant__ TensorMap pair,
                const __grid_constant__ TensorMap residual_map, const u8* weights, const float* bias, u16* y,
                const u16* residual, const __grid_constant__ Sizes sizes, const u8* later_weights,
                const __grid_constant__ Later later, int first_to_leave) {
  extern __shared__ __align__(1024) u8 memory[];
  const Maps maps = {&x, &pair, &residual_map};
  const int warp = __shfl_sync(~0u, threadIdx.x >> 5, 0);
  Place at;
  at.thread = threadIdx.x & 127, at.lane = threadIdx.x & 31, at.warp = warp & 3;
  at.warpgroup = WARPGROUPS * ABREAST > 1 ? warp >> 2 : 0;
  at.slot = at.warpgroup / WARPGROUPS, at.group = at.warpgroup % WARPGROUPS;
  at.rank = SPLITS > 1 ? blockIdx.x % SPLITS : 0, at.first = blockIdx.x / SPLITS * WARPGROUPS;
  at.weights = weights + (u64)(at.first * SPLITS + at.rank) * WEIGHT_BYTES, at.policy = weight_policy(first_to_leave);
  at.channel = (at.first + at.group) * 64, at.column = blockIdx.y * sizes.columns;
  at.shared = shared_address(memory), at.leads = warp % (4 * WARPGROUPS) == 0;
  const int first = WALK ? blockIdx.z * sizes.walk : blockIdx.z * ABREAST + at.slot;
  const int count = WALK ? min(sizes.walk, sizes.items - first) : ABREAST == 1 || first < sizes.items;
  int image = BATCH ? first / sizes.tiles_down : 0, tile = first - image * sizes.tiles_down;

  if (warp == 0 && is_elected()) {
    UNROLL for (int buffer = 0; buffer < BUFFERS; buffer++) {
      barrier_init(landing_barrier(at, buffer));
      barrier_init(residual_barrier(at, buffer));
      UNROLL for (int block = 0; block < BLOCKS; block++) barrier_init(pixel_barrier(at, buffer, block));
    }
    const int tiles = ABREAST == 1 ? count : min(ABREAST, sizes.items - first);
    UNROLL for (int slot = 0; slot < SLOTS; slot++) {
      barrier_init(weight_barrier(at, slot));
      if (RING) barrier_init(free_barrier(at, slot), 4 * WARPGROUPS * tiles);
    }
    barriers_are_ready();
    UNROLL for (int piece = 0; piece < EARLY; piece++) fetch_weights(at, piece);
    UNROLL for (int buffer = 0; buffer < BUFFERS; buffer++) if (buffer < tiles) expect_tile(at, buffer);
    prefetch_map(maps.x);
    if (PAIR) prefetch_map(maps.pair);
    if (SPLITS == 1 && RESIDUAL) prefetch_map(maps.residual);
  }
  __syncwarp();
  if (SPLITS > 1) cluster_arrive_relaxed();  // no block may push before the others' barriers are ready

  float2 bias_alone;
  float4 bias_together;
  if (SPLITS == 1) {
    bias_alone = *(const float2*)(bias + at.channel + at.warp * 16 + 2 * (at.lane >> 2));
    __syncthreads();
  } else {
    bias_together = *(const float4*)(bias + at.channel + at.warp * 16 + 2 * (at.lane >> 2 & 6));
    cluster_wait();
  }

  int next_image = image, next_tile = tile;  // of the tile to fetch
  auto fetch_next = [&](int buffer) {
    fetch_tile(at, maps, buffer, next_image, next_tile * TILE_ROWS);
    if (++next_tile == sizes.tiles_down) next_tile = 0, next_image++;
  };
  wait_for_previous();
  if (at.leads && is_elected()) {
    if (ABREAST == 1 || count > 0) fetch_next(at.slot);
    if (warp == 0)
      UNROLL for (int piece = EARLY; piece < SLOTS; piece++) fetch_weights(at, piece);
    if (WALK && count > 1) fetch_next(1);
  }
  let_next_start();  // earlier, its blocks would take room and copies from this one's
  if (warp == 1 && is_elected()) ask_for_later(later_weights, later, at.policy);

  for (int item = 0; item < count; item++) {
    const int buffer = WALK ? item & 1 : at.slot, parity = WALK ? item >> 1 & 1 : 0;
    Stores to;
    place_stores(at, sizes, BATCH ? y + image * sizes.y_image : y,
                 BATCH ? residual + image * sizes.residual_image : residual, tile * TILE_ROWS / SHRUNK, to);
    uint2 added[ROUNDS];
    if (SPLITS > 1 && RESIDUAL)
      UNROLL for (int i = 0; i < ROUNDS; i++) added[i] = to.inside[i] ? load8(to.residual[i]) : make_uint2(0, 0);
    float d[4 * TILE_ROWS];
    UNROLL for (int i = 0; i < 4 * TILE_ROWS; i++) d[i] = 0.f;
    multiply(at, d, buffer, parity);
    if (SPLITS == 1) finish_alone(at, sizes, to, memory, d, bias_alone, buffer, parity);
    else finish_together(at, to, memory, d, bias_together, added, buffer, parity);
    if (WALK && item + 1 < count) {  // free the buffer, in the whole cluster, for the tile after the next
      if (SPLITS == 1) fence_for_async();
      __syncthreads();
      if (item + 2 < count && at.leads && is_elected()) {
        expect_tile(at, buffer);
        fetch_next(buffer);
      }
      if (SPLITS > 1) {
        __syncwarp();
        if (item > 0) cluster_wait();
        cluster_arrive();
      }
      if (++tile == sizes.tiles_down) tile = 0, image++;
    }
  }
  if (WALK && SPLITS > 1 && count > 1) cluster_wait();
}
