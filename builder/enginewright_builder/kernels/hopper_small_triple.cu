// hopper_triple.cu where there are no more tiles than multiprocessors: a tile is all that a block does, and its time is latency.
//
//     b = before act(3x3 of x + before bias)       at most 64 channels in and out, never stored
//     y = act(b w [+ x2 w2] + bias [+ residual])   stored
//     z = next act(y v + next bias)                stored
//
// An epilogue takes a warp longer than its products, so a warpgroup each makes the CHUNKS chunks of 64 channels of y, all at
// the same time. What they hand on to one another, b and y, lies in shared memory, as a product's left operand does:
//
//     group 0:   3x3 -> b | b w -> y chunk 0 | all chunks of y v -> z's first 64 channels
//     group 1:            | b w -> y chunk 1 | all chunks of y v -> z's second 64
//     group 2:            | b w -> y chunk 2 |
//     ...
//
// Shared memory: all weights, fetched before the previous launch has ended; the halo, b, x2; y, where the residual comes to
// before; without one, in the place of the 3x3's weights, which have been read by then.
//
// Macros: those of hopper_triple.cuh (RESULTS 64, outputs of 2 bytes), PAIRED, CHUNKS (of y), NEXT (channels of z, 64 or 128).
#include "hopper_patches.cuh"
#include "hopper_triple.cuh"
#include "wgmma.generated"

constexpr int BETWEEN_MADE = 272, READY = 320, FINISHED = 384;  // bytes at which barriers lie

extern "C" __global__ void __launch_bounds__(128 * CHUNKS + 64, 1)
    hopper_small_triple(const __grid_constant__ TensorMap a, const __grid_constant__ TensorMap second,
                        const __grid_constant__ TensorMap taps_map, const __grid_constant__ TensorMap w_map,
                        const __grid_constant__ TensorMap v_map, const __grid_constant__ TensorMap residual,
                        const __grid_constant__ TensorMap out, const __grid_constant__ TensorMap next_out,
                        const float* before_bias, const float* bias, const float* next_bias,
                        const __grid_constant__ Pictures p) {
    extern __shared__ __align__(1024) unsigned char shared[];
    const uint32_t base = shared_address(shared), taps = base + 1024, w = taps + TAPS_BYTES, v = w + W_BYTES;
    const uint32_t halo = v + V_BYTES, between = halo + HALO_SPAN, beside = between + BOX_BYTES;
    const uint32_t staging = RESIDUAL ? beside + PAIRED * BOX_BYTES : taps;
    const uint32_t tap_known = base, w_known = base + 8 * TAPS, v_known = w_known + 8 * CHUNKS;
    const uint32_t full = base + 256, arrived = base + 264, made = base + BETWEEN_MADE;
    const uint32_t ready = base + READY, finished = base + FINISHED;  // a chunk each; behind them z's
    const int warp = __shfl_sync(~0u, threadIdx.x >> 5, 0), group = warp >> 2;
    if (threadIdx.x < 128) {
        const int at = 8 * threadIdx.x;
        barrier_init(base + at, at == BETWEEN_MADE || at >= FINISHED ? 128 : 1);
        barrier_init_done();
    }
    __syncthreads();
    if (group == CHUNKS) {
        if (!elect_one()) return;
        if (warp % 4 == 0) {  // ---- the weights warp: constants, so it waits for nobody
            expect_map(&taps_map), expect_map(&w_map), expect_map(&v_map);
            for (int i = 0; i < TAPS; i++) {
                barrier_expect(tap_known + 8 * i, BOX_BYTES);
                load_box(taps + i * BOX_BYTES, &taps_map, i * 64, 0, tap_known + 8 * i);
            }
            for (int i = 0; i < CHUNKS; i++) {
                barrier_expect(w_known + 8 * i, STEPS * BOX_BYTES);
                for (int at = i; at < CHUNKS * STEPS; at += CHUNKS)
                    load_box(w + at * BOX_BYTES, &w_map, 0, at * 64, w_known + 8 * i);
            }
            for (int i = 0; i < CHUNKS; i++) {
                barrier_expect(v_known + 8 * i, NEXT * 128);
                load_box(v + i * NEXT * 128, &v_map, 0, i * NEXT, v_known + 8 * i);
            }
        } else {  // ---- the mover
            expect_map(&a), expect_map(&out), expect_map(&next_out);
            if (PAIRED) expect_map(&second);
            if (RESIDUAL) expect_map(&residual);
            const Spot spot = spot_of(p, blockIdx.x);
            barrier_expect(full, HALO_BYTES);
            if (PAIRED) barrier_expect(arrived, BOX_BYTES);
            for (int i = 0; i < RESIDUAL * CHUNKS; i++) barrier_expect(ready + 8 * i, BOX_BYTES);
            wait_for_previous();
            load_box(halo, &a, 0, spot.x - p.left, spot.y - p.top, spot.image, full);
            if (PAIRED) load_box(beside, &second, 0, spot.x, spot.y, spot.image, arrived);
            for (int i = 0; i < RESIDUAL * CHUNKS; i++)
                load_box(staging + i * BOX_BYTES, &residual, i * 64, spot.x, spot.y, spot.image, ready + 8 * i);
            let_next_start();  // earlier, its blocks would take copies from this one's
            for (int i = 0; i < CHUNKS + NEXT_PANELS; i++) {
                const int panel = i - CHUNKS;
                barrier_wait(finished + 8 * i, 0);
                if (panel < 0) store_box(&out, i * 64, spot.x, spot.y, spot.image, staging + i * BOX_BYTES);
                else store_box(&next_out, panel * 64, spot.x, spot.y, spot.image, panel == 0 ? between : halo);
                store_commit();
            }
            stores_read();
        }
        return;
    }
    const int thread = threadIdx.x & 127, lane = threadIdx.x & 31, row = lane >> 2, pair = lane & 3;
    unsigned char* const rows = shared + ((warp & 3) * 16 + row) * WIDTH;  // of a tile that lies at `shared`
    const auto alone = [](int, int, uint32_t) {};  // results are for shared memory alone
    float sums[32];
    keep(started<64>(before_bias, thread) + started<64>(bias + group * 64, thread) + started<NEXT>(next_bias, thread));
    if (group == 0) {
        const uint64_t window = operand<128>(halo, EDGE * 128), corner = operand<128>(taps, 1024);
        barrier_wait(full, 0);
        products_begin();
#pragma unroll
        for (int tap = 0; tap < TAPS; tap++) {
            barrier_wait(tap_known + 8 * tap, 0);
#pragma unroll
            for (int i = 0; i < 4; i++)  // descriptors count in units of 16 bytes
                multiply_add(sums, window + ((tap / 3 * EDGE + tap % 3) * 8 + i * 2),
                             corner + (tap * BOX_BYTES / 16 + i * 2), (tap | i) != 0);
        }
        products_commit();
        products_wait<0>();
        settle(sums);
        finish_tile<false, 8>(sums, rows + (between - base), before_bias, row, pair, p.before.scale,
                           [&](float sum) { return finish_before(sum, p.before); }, alone);
        publish_shared();
        barrier_arrive(made);
    }
    barrier_wait(w_known + 8 * group, 0);
    barrier_wait(made, 0);
    products_begin();
#pragma unroll
    for (int k = 0; k < 4; k++)
        multiply_add(sums, operand<128>(between, 1024) + k * 2, operand<128>(w + group * BOX_BYTES, 1024) + k * 2, k != 0);
    if (PAIRED) {
        barrier_wait(arrived, 0);
#pragma unroll
        for (int k = 0; k < 4; k++)
            multiply_add(sums, operand<128>(beside, 1024) + k * 2,
                         operand<128>(w + (CHUNKS + group) * BOX_BYTES, 1024) + k * 2, true);
    }
    products_commit();
    products_wait<0>();
    settle(sums);
    if (RESIDUAL) barrier_wait(ready + 8 * group, 0);
    finish_tile<RESIDUAL, 8>(sums, rows + (staging + group * BOX_BYTES - base), bias + group * 64, row, pair, p.epilogue.scale,
                          [&](float sum) { return finish(sum, p.epilogue); }, alone);
    publish_shared();
    barrier_arrive(finished + 8 * group);
    if (group >= NEXT_PANELS) return;
    products_begin();
#pragma unroll
    for (int chunk = 0; chunk < CHUNKS; chunk++) {
        barrier_wait(v_known + 8 * chunk, 0);
        barrier_wait(finished + 8 * chunk, 0);
#pragma unroll
        for (int k = 0; k < 4; k++)
            multiply_add(sums, operand<128>(staging + chunk * BOX_BYTES, 1024) + k * 2,
                         operand<128>(v + chunk * NEXT * 128 + group * BOX_BYTES, 1024) + k * 2, (chunk | k) != 0);
    }
    products_commit();
    products_wait<0>();
    settle(sums);
    finish_tile<false, 8>(sums, rows + ((group == 0 ? between : halo) - base), next_bias + group * 64, row, pair, p.next.scale,
                       [&](float sum) { return finish_next(sum, p.next); }, alone);
    publish_shared();
    barrier_arrive(finished + 8 * (CHUNKS + group));
}
