// Attention of one product's columns on Hopper, for sequences that one tile holds, in one launch:
//
//     q | k | v = a b + bias,  y = softmax(scale q k^T) v  of each head
//
// A block makes one head of one sequence, 64 rows a warpgroup: the tile's 192 columns are that head's q, k and v, from three
// places of b. q stays in registers, which are how the scores' product takes its left operand; k and v are rounded into
// shared memory as the copy engine would bring them. The product's result is never in memory.
//
//     shared memory:  | STAGES of a (ROWS x 64) and b (192 x 64); then y, 64 x 64 a warpgroup | k, ROWS x 64 | v, ROWS x 64 |
//
// The last warp is the load warp (weights before the previous kernel has ended), the others are consumers.
//
// Set before this text: WARPGROUPS (1 or 2), STAGES, and what hopper_softmax.cuh wants.
#include "hopper.cuh"
#include "activations.cuh"
#include "wgmma.generated"
#include "hopper_softmax.cuh"

struct Sizes {
    int heads, steps, columns;  // steps of 64 k; columns of b
    int q, k, v;                // b's column of the first head's
    int keys;                   // of a sequence
    float scale;                // with log2(e) in it; positive
};

constexpr int CONSUMERS = 128 * WARPGROUPS, THREADS = CONSUMERS + 32, ROWS = 64 * WARPGROUPS;
constexpr int A_BYTES = ROWS * 128, B_BYTES = 64 * 128, STAGE_BYTES = A_BYTES + 3 * B_BYTES;

// Grid: heads of all sequences, the heads of one next to each other.
extern "C" __global__ void __launch_bounds__(THREADS)
    hopper_heads(const __grid_constant__ TensorMap a, const __grid_constant__ TensorMap b, const __grid_constant__ TensorMap y,
                 const float* bias, const __grid_constant__ Sizes sizes) {
    extern __shared__ unsigned char unaligned[];
    unsigned char* shared = unaligned + ((1024 - (shared_address(unaligned) & 1023)) & 1023);
    const uint32_t base = shared_address(shared), full = base, empty = base + 64, pipe = base + 1024;
    const uint32_t k_at = pipe + STAGES * STAGE_BYTES, v_at = k_at + ROWS * 128;
    float* const added = (float*)(shared + 128);  // the bias of q, k and v
    const int warp = __shfl_sync(~0u, threadIdx.x >> 5, 0), batch = blockIdx.x / sizes.heads, head = blockIdx.x - batch * sizes.heads;
    if (warp == 0 && elect_one()) {
        for (int i = 0; i < STAGES; i++) barrier_init(full + 8 * i, 1), barrier_init(empty + 8 * i, WARPGROUPS);
        barrier_init_done();
    }
    for (int i = threadIdx.x; i < 192; i += THREADS) {
        const int part = i / 64;
        added[i] = bias[(part == 0 ? sizes.q : part == 1 ? sizes.k : sizes.v) + head * 64 + i % 64];
    }
    __syncthreads();
    let_next_start();
    if (warp == 4 * WARPGROUPS) {  // ---- the load warp
        if (!elect_one()) return;
        expect_map(&b), expect_map(&a), expect_map(&y);
        auto load_weights = [&](int step, int slot) {
            const uint32_t to = pipe + slot * STAGE_BYTES + A_BYTES, first = step * sizes.columns + head * 64;
            barrier_expect(full + 8 * slot, STAGE_BYTES);
            load_box(to, &b, 0, first + sizes.q, full + 8 * slot);
            load_box(to + B_BYTES, &b, 0, first + sizes.k, full + 8 * slot);
            load_box(to + 2 * B_BYTES, &b, 0, first + sizes.v, full + 8 * slot);
        };
        const int early = min(STAGES, sizes.steps);
        for (int i = 0; i < early; i++) load_weights(i, i);
        wait_for_previous();
        int slot = 0, phase = 1;
        for (int step = 0; step < sizes.steps; step++) {
            if (step >= early) {
                barrier_wait(empty + 8 * slot, phase);
                load_weights(step, slot);
            }
            load_box(pipe + slot * STAGE_BYTES, &a, step * 64, 0, batch, 0, full + 8 * slot);
            if (++slot == STAGES) slot = 0, phase ^= 1;
        }
        return;
    }
    // ---- the consumers
    const int group = warp >> 2, lane = threadIdx.x & 31, row = lane >> 2, pair = lane & 3;
    const int own = group * GROUP_BYTES, mine = own + ((warp & 3) * 16 + row) * 128;  // of k, v and y
    const bool leads = (threadIdx.x & 127) == 0;
    float made[96];
    int slot = 0, phase = 0, previous = -1;
    for (int step = 0; step < sizes.steps; step++) {
        const uint32_t left = pipe + slot * STAGE_BYTES + own, right = pipe + slot * STAGE_BYTES + A_BYTES;
        barrier_wait(full + 8 * slot, phase);
        products_begin();
#pragma unroll
        for (int i = 0; i < 4; i++)
            multiply_add(made, operand<128>(left + i * 32, 1024), operand<128>(right + i * 32, 1024), step != 0 || i != 0);
        products_commit();
        products_wait<1>();
        if (previous >= 0 && leads) barrier_arrive(empty + 8 * previous);
        previous = slot;
        if (++slot == STAGES) slot = 0, phase ^= 1;
    }
    products_wait<0>();
    settle(made);

    uint32_t q[4][4];
#pragma unroll
    for (int part = 1; part < 3; part++)
        lay_rows(made + part * 32, shared + ((part == 1 ? k_at : v_at) - base) + mine, row, pair,
                 [&](float sum, int, int column) { return sum + added[part * 64 + column]; });
    publish_shared();
#pragma unroll
    for (int i = 0; i < 4; i++)
#pragma unroll
        for (int e = 0; e < 4; e++) {
            const float2 more = *(const float2*)(added + i * 16 + e / 2 * 8 + pair * 2);
            q[i][e] = pack(ELEMENT{}, made[8 * i + 2 * e] + more.x, made[8 * i + 2 * e + 1] + more.y);
        }
    group_barrier(1, CONSUMERS);  // all of k and v are there, and nobody reads the pipeline any more

    float scores[KEYS / 2], lowered[2], sums[32], share[2];
    products_begin();
#pragma unroll
    for (int i = 0; i < 4; i++) multiply_keys(scores, q[i], operand<128>(k_at + i * 32, 1024), i != 0);
    products_commit();
    products_wait<0>();
    settle(scores);
    lower_scores(scores, lowered, sizes.keys, sizes.scale, pair);
    weigh_values(scores, lowered, sizes.scale, v_at, sums, share);
    lay_rows(sums, shared + (pipe - base) + mine, row, pair, [&](float sum, int r, int) { return sum * share[r]; });
    publish_shared();
    group_barrier(2 + group, 128);
    if (leads) {
        wait_for_previous();  // it may still read what this overwrites
        store_box(&y, 0, group * 64, head, batch, pipe + own);
        store_commit();
        stores_read();
    }
}
