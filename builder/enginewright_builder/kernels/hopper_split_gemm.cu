// A matrix product for Hopper where there is too little work to fill the device: the sums over k are split among the blocks
// of a cluster.
//
//     k:      | block 0 | block 1 | ... | block SPLITS-1      One tile (ROWS x COLUMNS) a cluster. Each block sums over its
//             +---------+---------+-----+---------+           share of k, then sends each other block its columns of the
//     tile:   | all columns, a share of k each    |           sums, through the cluster's shared memory; every block adds
//             +---------+---------+-----+---------+           up and finishes COLUMNS / SPLITS columns.
//     result: | columns | columns | ... | columns |
//
// The last warp is the load warp (TMA, STAGES buffers; weights before the previous kernel has ended), the others are
// consumers, a warpgroup every 64 rows. A thread's sums keep their places on the way, so that the same thread of another
// block adds them: no layout changes, no bank conflicts, and always the same order of additions.
//
// Macros: as in hopper_gemm.cu, and SPLITS; no STAGING and PINGPONG.
constexpr int ROWS = 64 * WARPGROUPS;
#include "hopper_tiles.cuh"

constexpr int THREADS = 128 * WARPGROUPS;
constexpr int SHARE = RESULTS / 2;  // sums of a thread that one block finishes

extern "C" __global__ void __launch_bounds__(THREADS + 32)
    hopper_split_gemm(const __grid_constant__ TensorMap a, const __grid_constant__ TensorMap second,
                      const __grid_constant__ TensorMap b, const __grid_constant__ TensorMap residual,
                      const __grid_constant__ TensorMap out, const float* bias, const __grid_constant__ Geometry g) {
    extern __shared__ unsigned char unaligned[];
    unsigned char* shared = unaligned + ((1024 - (shared_address(unaligned) & 1023)) & 1023);
    const uint32_t base = shared_address(shared), full = base, empty = base + 128, ready = base + 256;
    const uint32_t sent = base + 264, pipe = base + 1024;
    const uint32_t staging = pipe + STAGES * STAGE_BYTES, slots = staging + STAGING_BYTES;
    const int warp = __shfl_sync(~0u, threadIdx.x >> 5, 0), rank = SPLITS > 1 ? blockIdx.x % SPLITS : 0;
    const Tile tile = tile_at(g, blockIdx.x / SPLITS);
    const Tile mine = {tile.row, tile.column + rank * RESULTS, tile.inner, tile.outer};  // what this block finishes
    const int from = rank * g.steps / SPLITS, steps = (rank + 1) * g.steps / SPLITS - from;
    if (warp == 0 && elect_one()) {
        for (int i = 0; i < STAGES; i++) barrier_init(full + 8 * i, 1), barrier_init(empty + 8 * i, WARPGROUPS);
        barrier_init(ready, 1), barrier_init(sent, 1);
        barrier_init_done();
        if (SPLITS > 1) barrier_expect(sent, (SPLITS - 1) * SHARE * THREADS * 4);
    }
    __syncthreads();
    if (SPLITS > 1) cluster_arrive();  // this block runs: others may send to it
    let_next_start();
    if (warp == 4 * WARPGROUPS) {  // ---- the load warp
        if (elect_one()) {
            expect_map(&b);
            expect_map(&a);
            if (PAIRED) expect_map(&second);
            const int early = PACKED ? min(STAGES, steps) : 0;
            for (int i = 0; i < early; i++) {
                barrier_expect(full + 8 * i, STAGE_BYTES);
                load_weights(pipe + i * STAGE_BYTES + A_BYTES, &b, g, tile, from + i, full + 8 * i);
            }
            wait_for_previous();
            if (RESIDUAL) load_residual(staging, &residual, mine, ready);
            Walk walk(g, tile, from * PIECES);
            int slot = 0, phase = 1;
            for (int step = 0; step < steps; step++) {
                const uint32_t to = pipe + slot * STAGE_BYTES, arrived = full + 8 * slot;
                if (step >= early) {
                    barrier_wait(empty + 8 * slot, phase);
                    barrier_expect(arrived, STAGE_BYTES);
                    load_weights(to + A_BYTES, &b, g, tile, from + step, arrived);
                }
#pragma unroll
                for (int i = 0; i < PIECES; i++) walk.load(to + i * A_PIECE, &a, &second, g, tile, arrived);
                if (++slot == STAGES) slot = 0, phase ^= 1;
            }
        }
        __syncwarp();
        if (SPLITS > 1) cluster_wait();
        return;
    }
    // ---- the consumers
    const int group = warp >> 2, lane = threadIdx.x & 31;
    const bool leads = (threadIdx.x & 127) == 0;
    const float warm = start_constant(bias + mine.column + threadIdx.x % RESULTS);
    float sums[1][COLUMNS / 2];
    int slot = 0, phase = 0, previous = -1;
    for (int step = 0; step < steps; step++) {
        barrier_wait(full + 8 * slot, phase);
        multiply_stage(sums, pipe + slot * STAGE_BYTES + group * 64 * CHUNK * 2, pipe + slot * STAGE_BYTES + A_BYTES, step != 0);
        products_wait<1>();
        if (previous >= 0 && leads) barrier_arrive(empty + 8 * previous);
        previous = slot;
        if (++slot == STAGES) slot = 0, phase ^= 1;
    }
    products_wait<0>();
    settle(sums[0]);
    keep(warm);
    float own[SHARE];
    if (SPLITS > 1) cluster_wait();
#pragma unroll
    for (int other = 0; other < SPLITS; other++)
#pragma unroll
        for (int i = 0; i < SHARE; i += 4) {
            const float* part = &sums[0][other * SHARE + i];
            const uint32_t slot = slots + ((rank * SHARE + i) * THREADS + threadIdx.x * 4) * 4;
            if (other == rank)
                for (int k = 0; k < 4; k++) own[i + k] = part[k];
            else send(address_in(slot, other), part[0], part[1], part[2], part[3], address_in(sent, other));
        }
    if (SPLITS > 1) {
        barrier_wait(sent, 0);
        const float4* others = (const float4*)(shared + (slots - base)) + threadIdx.x;
#pragma unroll
        for (int other = 0; other < SPLITS; other++)
            if (other != rank)
#pragma unroll
                for (int i = 0; i < SHARE; i += 4) {
                    const float4 part = others[(other * SHARE + i) / 4 * THREADS];
                    own[i] += part.x, own[i + 1] += part.y, own[i + 2] += part.z, own[i + 3] += part.w;
                }
    }
    if (RESIDUAL) barrier_wait(ready, 0);
    const int row = lane >> 2;
    unsigned char* const rows = shared + (staging - base) + group * STAGED_ROWS * WIDTH;
    auto staged_panel = [&](int q) {
        publish_shared();
        group_barrier(1, THREADS);
        if (threadIdx.x > 0) return;
        if (q == 0) wait_for_previous();  // it may still read what this overwrites
        store_panel(&out, g, mine, staging, q);
    };
    if (POOLED) finish_pooled(own, rows, PANEL_BYTES, bias + mine.column, warp & 3, row, lane & 3, g.epilogue, staged_panel);
    else finish_rows(own, rows + ((warp & 3) * 16 + row) * WIDTH, PANEL_BYTES, bias + mine.column, row, lane & 3, g.epilogue, staged_panel);
    if (threadIdx.x == 0) stores_read();
}
