// A persistent matrix product for Hopper: out[pixel][channel] = act(scale * sum_k a[pixel][k] * b[channel][k] + bias + residual)
//
//             COLUMNS channels          One block a multiprocessor walks over the tiles. Its warps have roles:
//            +-----------------+
//   ROWS     | 64 x COLUMNS    | <- consumer warpgroup 0: wgmma, sums in registers, epilogue into a staging tile
//   pixels   +-----------------+
//            | 64 x COLUMNS    | <- consumer warpgroup 1 (and 2)
//            +-----------------+
//   load warp:  TMA brings 64 k of a (ROWS x 64) and of b (COLUMNS x 64) into one of STAGES buffers, as far ahead as they go
//   store warp: TMA brings the residual into a staging tile early, and stores the finished tile from there
//
// With PINGPONG each of two warpgroups has its own tile of 128 pixels, and one's epilogue hides behind the other's products.
//
// Macros: WARPGROUPS, COLUMNS, STAGES, STAGING, PINGPONG; of the operands (hopper_tiles.cuh) CHUNK, ELEMENT, WINDOWED,
// PAIRED, BATCHED, K_MAJOR, PACKED (b is constant: fetched before the previous kernel has ended); of the results
// (hopper_epilogue.cuh) OUTPUT, RESIDUAL, ACTIVATION, GATED, PATCH_....
constexpr int GROUPS = PINGPONG ? 1 : WARPGROUPS;  // warpgroups that share a tile
constexpr int HIGH = PINGPONG ? 2 : 1;             // rows of 64 a warpgroup
constexpr int ROWS = 64 * GROUPS * HIGH;
// Where consumers need more registers than an even share, the warps beside them, then a whole warpgroup, give theirs. Where
// they don't, the block asks for no more than it needs: it may begin beside the last blocks of the kernel before.
constexpr bool CROWDED = WARPGROUPS > 1 && HIGH * COLUMNS / 2 > 96;
constexpr int THREADS = 128 * WARPGROUPS + (CROWDED ? 128 : 64);
#include "hopper_tiles.cuh"

extern "C" __global__ void __launch_bounds__(THREADS, 1)
    hopper_gemm(const __grid_constant__ TensorMap a, const __grid_constant__ TensorMap second,
                const __grid_constant__ TensorMap b, const __grid_constant__ TensorMap residual,
                const __grid_constant__ TensorMap out, const float* bias, const __grid_constant__ Geometry g) {
    extern __shared__ unsigned char unaligned[];
    unsigned char* shared = unaligned + ((1024 - (shared_address(unaligned) & 1023)) & 1023);
    const uint32_t base = shared_address(shared), pipe = base + 1024, staging = pipe + STAGES * STAGE_BYTES;
    const uint32_t full = base, empty = base + 64, ready = base + 128, turn = base + 192, finished = base + 256;
    const int warp = __shfl_sync(~0u, threadIdx.x >> 5, 0), group = warp >> 2;
    if (warp == 0 && elect_one()) {
        for (int i = 0; i < STAGES; i++) barrier_init(full + 8 * i, 1), barrier_init(empty + 8 * i, GROUPS);
        for (int i = 0; i < STAGING; i++) barrier_init(ready + 8 * i, 1);
        for (int i = 0; i < STAGING * PANELS; i++) barrier_init(finished + 8 * i, GROUPS * 128);
        for (int i = 0; i < 2; i++) barrier_init(turn + 8 * i, 1);
        barrier_init_done();
    }
    __syncthreads();
    let_next_start();
    if (group == WARPGROUPS) {
        if constexpr (CROWDED) registers_lower<WARPGROUPS == 2 ? 40 : 56>();
        if (warp == WARPGROUPS * 4 && elect_one()) {  // ---- the load warp
            expect_map(&b);
            expect_map(&a);
            if (PAIRED) expect_map(&second);
            const int early = PACKED ? min(STAGES, g.steps) : 0;
            for (int i = 0; i < early; i++) {
                barrier_expect(full + 8 * i, STAGE_BYTES);
                load_weights(pipe + i * STAGE_BYTES + A_BYTES, &b, g, tile_at(g, blockIdx.x), i, full + 8 * i);
            }
            wait_for_previous();
            int slot = 0, phase = 1, taken = 0;
            for (int index = blockIdx.x; index < g.tiles; index += gridDim.x) {
                const Tile tile = tile_at(g, index);
                Walk walk(g, tile, 0);
                for (int step = 0; step < g.steps; step++, taken++) {
                    const uint32_t to = pipe + slot * STAGE_BYTES, arrived = full + 8 * slot;
                    if (taken >= early) {
                        barrier_wait(empty + 8 * slot, phase);
                        barrier_expect(arrived, STAGE_BYTES);
                        load_weights(to + A_BYTES, &b, g, tile, step, arrived);
                    }
#pragma unroll
                    for (int i = 0; i < PIECES; i++) walk.load(to + i * A_PIECE, &a, &second, g, tile, arrived);
                    if (++slot == STAGES) slot = 0, phase ^= 1;
                }
            }
        } else if (warp == WARPGROUPS * 4 + 1 && elect_one()) {  // ---- the store warp
            if (RESIDUAL) expect_map(&residual);
            expect_map(&out);
            wait_for_previous();
            if (RESIDUAL)
                for (int i = 0; i < STAGING; i++) {
                    int index = blockIdx.x + i * gridDim.x;
                    if (index < g.tiles) load_residual(staging + i * STAGING_BYTES, &residual, tile_at(g, index), ready + 8 * i);
                }
            int count = 0;
            for (int index = blockIdx.x; index < g.tiles; index += gridDim.x, count++) {
                const int slot = count % STAGING;
                const uint32_t from = staging + slot * STAGING_BYTES;
                const Tile tile = tile_at(g, index);
                for (int q = 0; q < PANELS; q++) {
                    barrier_wait(finished + 8 * (slot * PANELS + q), (count / STAGING) & 1);
                    store_panel(&out, g, tile, from, q);
                }
                stores_read();
                if (RESIDUAL) {
                    int next = index + STAGING * gridDim.x;
                    if (next < g.tiles) load_residual(from, &residual, tile_at(g, next), ready + 8 * slot);
                } else {
                    barrier_arrive(ready + 8 * slot);
                }
            }
        }
    } else {  // ---- the consumers
        if constexpr (CROWDED) registers_raise<WARPGROUPS == 2 ? 232 : 152>();
        const int lane = threadIdx.x & 31, row = lane >> 2, pair = lane & 3;
        const bool leads = (threadIdx.x & 127) == 0;
        const int first = PINGPONG ? group : 0, apart = PINGPONG ? 2 : 1;  // every other tile is the other group's
        int slot = 0, phase = 0;
        for (int count = first; blockIdx.x + count * gridDim.x < g.tiles; count += apart) {
            const Tile tile = tile_at(g, blockIdx.x + count * gridDim.x);
            const int spot = count % STAGING;
            float sums[HIGH][COLUMNS / 2];
            if (PINGPONG) {
                slot = count * g.steps % STAGES, phase = (count * g.steps / STAGES) & 1;
                // until the other group has passed all of its barriers: were they a round apart, parities would mislead
                if (count > 0) barrier_wait(turn + 8 * ((count - 1) & 1), ((count - 1) / 2) & 1);
            }
            const float warm = start_constant(bias + tile.column + threadIdx.x % 128 * 2 % COLUMNS);
            int previous = -1;
            for (int step = 0; step < g.steps; step++) {
                const uint32_t at = pipe + slot * STAGE_BYTES + (PINGPONG ? 0 : group * 64 * CHUNK * 2);
                barrier_wait(full + 8 * slot, phase);
                multiply_stage(sums, at, pipe + slot * STAGE_BYTES + A_BYTES, step != 0);
                products_wait<1>();
                if (previous >= 0 && leads) barrier_arrive(empty + 8 * previous);
                previous = slot;
                if (++slot == STAGES) slot = 0, phase ^= 1;
            }
            if (PINGPONG && leads) barrier_arrive(turn + 8 * (count & 1));
            products_wait<0>();
#pragma unroll
            for (int h = 0; h < HIGH; h++) settle(sums[h]);
            keep(warm);
            if (leads) barrier_arrive(empty + 8 * previous);
            barrier_wait(ready + 8 * spot, RESIDUAL ? (count / STAGING) & 1 : ((count / STAGING) & 1) ^ 1);
            unsigned char* const stage = shared + (staging - base) + spot * STAGING_BYTES;
#pragma unroll
            for (int h = 0; h < HIGH; h++) {
                unsigned char* const rows = stage + (PINGPONG ? h : group) * STAGED_ROWS * WIDTH;
                auto staged_panel = [&](int q) {
                    if (h < HIGH - 1) return;
                    publish_shared();
                    barrier_arrive(finished + 8 * (spot * PANELS + q));
                };
                if (POOLED) finish_pooled(sums[h], rows, PANEL_BYTES, bias + tile.column, warp & 3, row, pair, g.epilogue, staged_panel);
                else finish_rows(sums[h], rows + ((warp & 3) * 16 + row) * WIDTH, PANEL_BYTES, bias + tile.column, row, pair, g.epilogue, staged_panel);
            }
        }
    }
}
