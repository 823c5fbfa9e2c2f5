// A 3x3 convolution and the two 1x1 convolutions behind it at large batches on Hopper, in one persistent launch, NHWC:
//
//     b = before act(3x3 of x + before bias)       at most 64 channels in and out, never stored
//     y = act(b w [+ x2 w2] + bias [+ residual])   stored
//     z = next act(y v + next bias)                stored
//
// as where a residual block ends and the next one reduces. The picture is read once, as halo_conv.cu explains: a tile is a
// patch of 8 x 8 pixels. What one product leaves in registers is how the next takes its left operand, so b and y go there
// without a detour; y and z pass through shared memory only to be stored.
//
//   shared memory:  | all weights of all three | halo of each group | x2 of each | STAGING tiles of 64 x 64 of each |
//
// A block a multiprocessor, its weights fetched once. Roles of its warps, two groups with their own tiles and buffers:
//   consumer warpgroup:  3x3, then chunk by chunk of 64 channels: b w, epilogue, the next chunk's b w, times v
//   load warp:   the halo as soon as the tile before has multiplied it, x2 as soon as its last chunk has
//   store warp:  the residual into a staging tile early; stores what is finished
//
// Macros: those of hopper_epilogue.cuh (RESULTS 64, outputs of 2 bytes), ELEMENT, PAIRED, CHUNKS (of y), NEXT (channels of
// z, a multiple of 64), STAGING, BEFORE_ACTIVATION, BEFORE_GATED, NEXT_ACTIVATION, NEXT_GATED.
#include "hopper_patches.cuh"
#include "hopper_triple.cuh"
#include "wgmma.generated"
#include "left_wgmma.generated"

constexpr int GROUPS = 2;

extern "C" __global__ void __launch_bounds__(128 * (GROUPS + 1), 1)
    hopper_triple(const __grid_constant__ TensorMap a, const __grid_constant__ TensorMap second,
                  const __grid_constant__ TensorMap taps_map, const __grid_constant__ TensorMap w_map,
                  const __grid_constant__ TensorMap v_map, const __grid_constant__ TensorMap residual,
                  const __grid_constant__ TensorMap out, const __grid_constant__ TensorMap next_out, const float* before_bias,
                  const float* bias, const float* next_bias, const __grid_constant__ Pictures p) {
    extern __shared__ __align__(1024) unsigned char shared[];
    const uint32_t base = shared_address(shared), taps = base + 1024, w = taps + TAPS_BYTES, v = w + W_BYTES;
    const int warp = __shfl_sync(~0u, threadIdx.x >> 5, 0), group = warp >> 2, side = group < GROUPS ? group : warp & 1;
    const uint32_t halos = v + V_BYTES, seconds = halos + GROUPS * HALO_SPAN;
    const uint32_t halo = halos + side * HALO_SPAN, beside = seconds + side * BOX_BYTES;  // of this warp's group
    const uint32_t staging = seconds + PAIRED * GROUPS * BOX_BYTES + side * STAGING * BOX_BYTES;
    const uint32_t taps_known = base, known = base + 8, mine = base + 64 + side * 256;
    const uint32_t full = mine, empty = mine + 8, arrived = mine + 16, taken = mine + 24;  // the halo; x2
    const uint32_t ready = mine + 64, finished = mine + 128;                               // staging tiles
    if (warp == 0 && elect_one()) {
        barrier_init(taps_known, 1), barrier_init(known, 1);
        for (int g = 0; g < GROUPS; g++) {
            const uint32_t its = base + 64 + g * 256;
            for (int i = 0; i < 4; i++) barrier_init(its + 8 * i, 1);
            for (int i = 0; i < STAGING; i++) barrier_init(its + 64 + 8 * i, 1), barrier_init(its + 128 + 8 * i, 128);
        }
        barrier_init_done();
    }
    __syncthreads();
    let_next_start();
    const int first = blockIdx.x * GROUPS + side, apart = gridDim.x * GROUPS;
    if (group == GROUPS) {
        registers_lower<40>();
        if ((warp & 3) < GROUPS && elect_one()) {  // ---- the load warps
            if (side == 0) {  // constants: they wait for nobody
                expect_map(&taps_map);
                barrier_expect(taps_known, TAPS_BYTES);
                for (int i = 0; i < TAPS; i++) load_box(taps + i * BOX_BYTES, &taps_map, i * 64, 0, taps_known);
            } else {
                expect_map(&w_map), expect_map(&v_map);
                barrier_expect(known, W_BYTES + V_BYTES);
                for (int i = 0; i < CHUNKS * STEPS; i++) load_box(w + i * BOX_BYTES, &w_map, 0, i * 64, known);
                for (int i = 0; i < CHUNKS; i++) load_box(v + i * NEXT * 128, &v_map, 0, i * NEXT, known);
            }
            expect_map(&a);
            if (PAIRED) expect_map(&second);
            wait_for_previous();
            for (int tile = first, phase = 1; tile < p.tiles; tile += apart, phase ^= 1) {
                const Spot spot = spot_of(p, tile);
                barrier_wait(empty, phase);
                barrier_expect(full, HALO_BYTES);
                load_box(halo, &a, 0, spot.x - p.left, spot.y - p.top, spot.image, full);
                if (!PAIRED) continue;
                barrier_wait(taken, phase);
                barrier_expect(arrived, BOX_BYTES);
                load_box(beside, &second, 0, spot.x, spot.y, spot.image, arrived);
            }
        } else if ((warp & 3) >= GROUPS && elect_one()) {  // ---- the store warps
            if (RESIDUAL) expect_map(&residual);
            expect_map(&out), expect_map(&next_out);
            wait_for_previous();
            auto prepare = [&](int count) {  // the staging tile of this group's `count`th results
                const int tile = first + count / STAGED * apart, chunk = count % STAGED, slot = count % STAGING;
                if (!RESIDUAL || chunk >= CHUNKS) barrier_arrive(ready + 8 * slot);
                else if (tile < p.tiles) {
                    const Spot spot = spot_of(p, tile);
                    barrier_expect(ready + 8 * slot, BOX_BYTES);
                    load_box(staging + slot * BOX_BYTES, &residual, chunk * 64, spot.x, spot.y, spot.image, ready + 8 * slot);
                }
            };
            for (int i = 0; i < STAGING; i++) prepare(i);
            int count = 0;
            for (int tile = first; tile < p.tiles; tile += apart) {
                const Spot spot = spot_of(p, tile);
                for (int chunk = 0; chunk < STAGED; chunk++, count++) {
                    const int slot = count % STAGING, behind = chunk - CHUNKS;
                    barrier_wait(finished + 8 * slot, count / STAGING & 1);
                    store_box(behind < 0 ? &out : &next_out, (behind < 0 ? chunk : behind) * 64, spot.x, spot.y, spot.image,
                              staging + slot * BOX_BYTES);
                    store_commit();
                    stores_read();
                    prepare(count + STAGING);
                }
            }
        }
    } else {  // ---- the consumers
        registers_raise<232>();
        const int lane = threadIdx.x & 31, row = lane >> 2, pair = lane & 3;
        const bool leads = (threadIdx.x & 127) == 0;
        unsigned char* const rows = shared + (staging - base) + ((warp & 3) * 16 + row) * WIDTH;
        const uint64_t window = operand<128>(halo, EDGE * 128), corner = operand<128>(taps, 1024);
        const uint64_t w_at = operand<128>(w, 1024), v_at = operand<128>(v, 1024), x2 = operand<128>(beside, 1024);
        int spot = 0, turn = 0, phase = 0;  // of the staging tiles; of the halo and x2
        auto step_on = [&] {
            publish_shared();
            barrier_arrive(finished + 8 * spot);
            if (++spot == STAGING) spot = 0, turn ^= 1;
        };
        barrier_wait(taps_known, 0);
        for (int tile = first; tile < p.tiles; tile += apart, phase ^= 1) {
            float sums[32], next[NEXT / 2];
            uint32_t b[4][4], y[2][4][4];  // y of two chunks: while one is multiplied the other is made
            barrier_wait(full, phase);
            products_begin();
#pragma unroll
            for (int tap = 0; tap < TAPS; tap++)
#pragma unroll
                for (int i = 0; i < 4; i++)  // descriptors count in units of 16 bytes
                    multiply_add(sums, window + ((tap / 3 * EDGE + tap % 3) * 8 + i * 2), corner + (tap * BOX_BYTES / 16 + i * 2),
                                 (tap | i) != 0);
            products_commit();
            products_wait<0>();
            settle(sums);
            if (leads) barrier_arrive(empty);
            finish_channels<8>(sums, 0, before_bias, pair, p.before.scale, [&](int j, int h, float low, float high) {
                b[j / 2][j % 2 * 2 + h] = pack(OUTPUT{}, finish_before(low, p.before), finish_before(high, p.before));
            });
            if (tile == first) barrier_wait(known, 0);
            if (PAIRED) barrier_wait(arrived, phase);
            auto expand = [&](int chunk) {
#pragma unroll
                for (int i = 0; i < 4; i++) multiply_add(sums, b[i], w_at + (chunk * BOX_BYTES / 16 + i * 2), i != 0);
#pragma unroll
                for (int i = 0; i < (PAIRED ? 4 : 0); i++)
                    multiply_add(sums, x2 + i * 2, w_at + ((CHUNKS + chunk) * BOX_BYTES / 16 + i * 2), true);
            };
            products_begin();
            expand(0);
            products_commit();
            products_wait<0>();
            settle(sums);
#pragma unroll
            for (int chunk = 0; chunk < CHUNKS; chunk++) {
                unsigned char* const stage = rows + spot * BOX_BYTES;
                barrier_wait(ready + 8 * spot, turn);
                finish_tile<RESIDUAL, 8>(sums, stage, bias + chunk * 64, row, pair, p.epilogue.scale,
                                         [&](float sum) { return finish(sum, p.epilogue); },
                                         [&](int j, int h, uint32_t two) { y[chunk % 2][j / 2][j % 2 * 2 + h] = two; });
                step_on();
                products_begin();
                if (chunk + 1 < CHUNKS) {  // first, for its results are wanted first: the others end behind their epilogue
                    expand(chunk + 1);
                    products_commit();
                }
#pragma unroll
                for (int i = 0; i < 4; i++)
                    multiply_add(next, y[chunk % 2][i], v_at + (chunk * NEXT * 8 + i * 2), (chunk | i) != 0);
                products_commit();
                if (chunk + 1 < CHUNKS) products_wait<1>(), settle(sums);
                else products_wait<0>(), settle(next);
                if (PAIRED && leads && chunk == CHUNKS - 2) barrier_arrive(taken);
            }
#pragma unroll
            for (int panel = 0; panel < NEXT_PANELS; panel++) {
                unsigned char* const stage = rows + spot * BOX_BYTES;
                barrier_wait(ready + 8 * spot, turn);
                finish_channels<8>(next, panel * 8, next_bias + panel * 64, pair, p.next.scale, [&](int j, int h, float low, float high) {
                    *(uint32_t*)(stage + place(j, row, pair) + h * 8 * WIDTH) =
                        pack(OUTPUT{}, finish_next(low, p.next), finish_next(high, p.next));
                });
                step_on();
            }
        }
    }
}
