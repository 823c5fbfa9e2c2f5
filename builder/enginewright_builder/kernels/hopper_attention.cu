// softmax(scale q k^T) v by Hopper's warpgroup products, for so few keys that all of them are one step: no maximum is ever
// corrected, and each operand is one box of the copy engine.
//
//     shared memory:  | q, 64 rows a warpgroup | k, KEYS rows | v, KEYS rows | y, as q |      rows of 64 numbers, 128 bytes
//
// A warpgroup makes 64 rows of one head (hopper_softmax.cuh).
//
// Set before this text: WARPGROUPS, and what hopper_softmax.cuh wants.
#include "hopper.cuh"
#include "activations.cuh"
#include "wgmma.generated"
#include "hopper_softmax.cuh"

struct Sizes {
    int keys;
    float scale;  // with log2(e) in it; positive
};

constexpr int THREADS = 128 * WARPGROUPS, KEY_BYTES = KEYS * 128;

// Grid: blocks of rows, heads, batches.
extern "C" __global__ void __launch_bounds__(THREADS)
    hopper_attention(const __grid_constant__ TensorMap q, const __grid_constant__ TensorMap k,
                     const __grid_constant__ TensorMap v, const __grid_constant__ TensorMap y, const __grid_constant__ Sizes sizes) {
    extern __shared__ unsigned char unaligned[];
    unsigned char* shared = unaligned + ((1024 - (shared_address(unaligned) & 1023)) & 1023);
    const uint32_t base = shared_address(shared), scored = base, valued = base + 8, q_at = base + 1024;
    const uint32_t k_at = q_at + WARPGROUPS * GROUP_BYTES, v_at = k_at + KEY_BYTES, y_at = v_at + KEY_BYTES;
    const int warp = __shfl_sync(~0u, threadIdx.x >> 5, 0), group = warp >> 2, lane = threadIdx.x & 31;
    const int row = lane >> 2, pair = lane & 3, first_row = blockIdx.x * 64 * WARPGROUPS, head = blockIdx.y, batch = blockIdx.z;
    if (warp == 0 && elect_one()) {
        barrier_init(scored, 1), barrier_init(valued, 1);
        barrier_init_done();
        expect_map(&q), expect_map(&k), expect_map(&v), expect_map(&y);
    }
    __syncthreads();
    let_next_start();
    if (warp == 0 && elect_one()) {
        barrier_expect(scored, WARPGROUPS * GROUP_BYTES + KEY_BYTES);
        barrier_expect(valued, KEY_BYTES);
        wait_for_previous();
        for (int i = 0; i < WARPGROUPS; i++) load_box(q_at + i * GROUP_BYTES, &q, 0, first_row + i * 64, head, batch, scored);
        load_box(k_at, &k, 0, 0, head, batch, scored);
        load_box(v_at, &v, 0, 0, head, batch, valued);
    }
    __syncwarp();

    float scores[KEYS / 2];
    barrier_wait(scored, 0);
    products_begin();
#pragma unroll
    for (int i = 0; i < 4; i++)
        multiply_add(scores, operand<128>(q_at + group * GROUP_BYTES + i * 32, 1024), operand<128>(k_at + i * 32, 1024), i != 0);
    products_commit();
    products_wait<0>();
    settle(scores);

    float lowered[2], sums[32], share[2];
    lower_scores(scores, lowered, sizes.keys, sizes.scale, pair);
    barrier_wait(valued, 0);
    weigh_values(scores, lowered, sizes.scale, v_at, sums, share);
    unsigned char* const made = shared + (y_at - base) + group * GROUP_BYTES + ((warp & 3) * 16 + row) * 128;
    lay_rows(sums, made, row, pair, [&](float sum, int r, int) { return sum * share[r]; });
    publish_shared();
    group_barrier(1 + group, 128);
    if ((threadIdx.x & 127) == 0) {
        wait_for_previous();  // it may still read what this overwrites
        store_box(&y, 0, first_row + group * 64, head, batch, y_at + group * GROUP_BYTES);
        store_commit();
        stores_read();
    }
}
