// A 3x3 convolution of up to 64 channels on Hopper that reads each pixel once.
//
//      +----------+     A warpgroup's tile is 8 x 8 pixels of COLUMNS channels. TMA brings the 10 x 10 pixels under it once,
//      | +------+ |     64 channels each, a row of 128 bytes a pixel. The operand of tap (y, x) is the same memory, begun
//      | | 8x8  | |     y * 10 + x rows later: wgmma takes groups of eight rows, and a descriptor says that they are 10 rows
//      | +------+ |     apart. The weights of all nine taps stay in shared memory for as long as the block lives.
//      +----------+ 10x10
//
// A persistent block: GROUPS consumer warpgroups, each with its own tiles, two buffers and a staging tile, and a load warp.
// Blocks with the same number modulo `column_tiles` share a tile of output channels.
//
// With a max pool of 2x2 a tile's 4 x 4 maxima are what is stored (hopper_epilogue.cuh: a patch of 8 x 8).
//
// Macros: GROUPS, COLUMNS (at most 64), ELEMENT, OUTPUT (a half type), RESIDUAL, ACTIVATION, GATED, PATCH_....
#include "hopper.cuh"
#include "hopper_epilogue.cuh"
#include "wgmma.generated"

struct Picture {
    int tiles, across, down;  // tiles of all images, and of one
    int column_tiles, left, top;
    int reversed;  // walk from the last tile to the first
    Epilogue epilogue;
};

constexpr int SIDE = 8, EDGE = SIDE + 2, TAPS = 9;
constexpr int HALO_BYTES = EDGE * EDGE * 128, HALO_SPAN = (HALO_BYTES + 1023) / 1024 * 1024;
constexpr int TAP_BYTES = COLUMNS * 128, WEIGHTS_SPAN = TAPS * TAP_BYTES;
constexpr int PANEL_BYTES = SIDE * SIDE / KEPT * WIDTH, STAGING_BYTES = PANELS * PANEL_BYTES;

struct Spot {
    int x, y, image;
};
INLINE Spot spot_of(const Picture& p, int tile) {
    if (p.reversed) tile = p.tiles - 1 - tile;
    int a_picture = p.across * p.down, image = tile / a_picture, rest = tile - image * a_picture, y = rest / p.across;
    return {(rest - y * p.across) * SIDE, y * SIDE, image};
}

extern "C" __global__ void __launch_bounds__(128 * GROUPS + 32, 1)
    halo_conv(const __grid_constant__ TensorMap a, const __grid_constant__ TensorMap b,
              const __grid_constant__ TensorMap residual, const __grid_constant__ TensorMap out, const float* bias,
              const __grid_constant__ Picture p) {
    extern __shared__ unsigned char unaligned[];
    unsigned char* shared = unaligned + ((1024 - (shared_address(unaligned) & 1023)) & 1023);
    const uint32_t base = shared_address(shared), full = base, empty = base + 128, ready = base + 256, known = base + 320;
    const uint32_t weights = base + 1024, halos = weights + WEIGHTS_SPAN, staging = halos + 2 * GROUPS * HALO_SPAN;
    const int warp = __shfl_sync(~0u, threadIdx.x >> 5, 0), group = warp >> 2;
    const int column = blockIdx.x % p.column_tiles * COLUMNS;
    const int first = blockIdx.x / p.column_tiles * GROUPS, apart = gridDim.x / p.column_tiles * GROUPS;
    if (warp == 0 && elect_one()) {
        for (int i = 0; i < 2 * GROUPS; i++) barrier_init(full + 8 * i, 1), barrier_init(empty + 8 * i, 1);
        for (int i = 0; i < GROUPS; i++) barrier_init(ready + 8 * i, 1);
        barrier_init(known, 1);
        barrier_init_done();
    }
    __syncthreads();
    let_next_start();
    if (group == GROUPS) {  // ---- the load warp
        if (elect_one()) {
            expect_map(&b);
            expect_map(&a);
            barrier_expect(known, WEIGHTS_SPAN);
            for (int tap = 0; tap < TAPS; tap++) load_box(weights + tap * TAP_BYTES, &b, tap * 64, column, known);
            wait_for_previous();
            for (int begin = first, count = 0; begin < p.tiles; begin += apart, count++)
                for (int i = 0; i < GROUPS && begin + i < p.tiles; i++) {
                    const int buffer = 2 * i + (count & 1);
                    const Spot spot = spot_of(p, begin + i);
                    barrier_wait(empty + 8 * buffer, ((count >> 1) & 1) ^ 1);
                    barrier_expect(full + 8 * buffer, HALO_BYTES);
                    load_box(halos + buffer * HALO_SPAN, &a, 0, spot.x - p.left, spot.y - p.top, spot.image, full + 8 * buffer);
                }
        }
        return;
    }
    // ---- the consumers
    const int lane = threadIdx.x & 31, row = lane >> 2, pair = lane & 3;
    const bool leads = (threadIdx.x & 127) == 0;
    const uint32_t mine = staging + group * STAGING_BYTES, arrived = ready + 8 * group;
    if (leads) {
        if (RESIDUAL) expect_map(&residual);
        expect_map(&out);
    }
    barrier_wait(known, 0);
    wait_for_previous();
    for (int tile = first + group, count = 0; tile < p.tiles; tile += apart, count++) {
        const int buffer = 2 * group + (count & 1);
        const Spot spot = spot_of(p, tile);
        float sums[COLUMNS / 2];
        barrier_wait(full + 8 * buffer, (count >> 1) & 1);
        const uint64_t left = operand<128>(halos + buffer * HALO_SPAN, EDGE * 128), right = operand<128>(weights, 1024);
        products_begin();
#pragma unroll
        for (int tap = 0; tap < TAPS; tap++)
#pragma unroll
            for (int i = 0; i < 4; i++)  // descriptors count in units of 16 bytes
                multiply_add(sums, left + ((tap / 3 * EDGE + tap % 3) * 8 + i * 2), right + (tap * TAP_BYTES / 16 + i * 2),
                             (tap | i) != 0);
        products_commit();
        if (leads) {
            stores_read();  // of this group's tile before
            if (RESIDUAL) {
                barrier_expect(arrived, STAGING_BYTES);
                for (int q = 0; q < PANELS; q++)
                    load_box(mine + q * PANEL_BYTES, &residual, column + q * PANEL, spot.x, spot.y, spot.image, arrived);
            }
        }
        products_wait<0>();
        settle(sums);
        if (leads) barrier_arrive(empty + 8 * buffer);
        if (RESIDUAL) barrier_wait(arrived, count & 1);
        else group_barrier(group + 1, 128);
        unsigned char* const stage = shared + (mine - base);
        auto staged_panel = [&](int q) {
            publish_shared();
            group_barrier(group + 1, 128);
            if (!leads) return;
            store_box(&out, column + q * PANEL, spot.x / SHRUNK, spot.y / SHRUNK, spot.image, mine + q * PANEL_BYTES);
            store_commit();
        };
        if (POOLED) finish_pooled(sums, stage, PANEL_BYTES, bias + column, warp & 3, row, pair, p.epilogue, staged_panel);
        else finish_rows(sums, stage + ((warp & 3) * 16 + row) * WIDTH, PANEL_BYTES, bias + column, row, pair, p.epilogue, staged_panel);
    }
    if (leads) stores_read();
}
