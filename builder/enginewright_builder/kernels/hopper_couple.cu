// Two 1x1 convolutions one behind the other at large batches on Hopper, both results wanted, in one persistent launch, NHWC:
//
//     y = act(scale * (x w [+ x2 w2]) + bias [+ residual])          z = next act(y v + next bias)
//
// as where a residual block expands and the next one reduces. y is stored, and is the second product's left operand where
// it lies, in shared memory: it is not read again.
//
//              COLUMNS channels of y, chunk by chunk             all NEXT channels of z
//            +-----------+-----------+--- ---+                  +----------------+
//   128      | y chunk 0 | y chunk 1 |  ...  |  -> stored       | sums of all    |
//   pixels   |   =  x w  |   =  x w  |       |  -> times v  ->  | chunks of y    |  -> stored, behind the last chunk
//            +-----------+-----------+--- ---+                  +----------------+
//
// A block a multiprocessor walks over tiles of 128 pixels. A chunk's results, and then z's, go through STAGING tiles of
// ROWS x COLUMNS in turns. Roles of its warps:
//   two consumer warpgroups, 64 pixels each: x w, epilogue into a staging tile, times v, sums of z in registers
//   weights warp:  both convolutions' weights, 64 k at a time, into STAGES slots in the order of their use; with RESIDENT
//                  there is a slot for all of them, and they are fetched once a block
//   pixels warp:   all of x's (and x2's) channels of a tile, INPUTS tiles ahead
//   store warp:    the residual into a staging tile early; stores what is finished; a tile is free once it is stored and
//                  the second product has read it
//
// Macros: those of hopper_tiles.cuh and hopper_epilogue.cuh (64 k a chunk, outputs of 2 bytes), and STEPS (of 64 k of x
// and x2), NEXT (a multiple of 64), STAGES, RESIDENT, INPUTS, STAGING, NEXT_ACTIVATION, NEXT_GATED.
constexpr int ROWS = 64 * WARPGROUPS;
#include "hopper.cuh"
#include "next_wgmma.generated"
#include "hopper_tiles.cuh"

constexpr int SLICES = COLUMNS / 64, PIECES_A_CHUNK = STEPS + SLICES;  // of weights
constexpr int W_BYTES = COLUMNS * 128, V_BYTES = NEXT * 128, SLOT_BYTES = W_BYTES > V_BYTES ? W_BYTES : V_BYTES;
constexpr int CHUNK_BYTES = STEPS * W_BYTES + SLICES * V_BYTES;
constexpr int WEIGHT_BYTES = RESIDENT ? STAGES / PIECES_A_CHUNK * CHUNK_BYTES : STAGES * SLOT_BYTES;
constexpr int INPUT_BYTES = STEPS * A_BYTES;
constexpr int NEXT_PANELS = NEXT / PANEL, NEXT_STAGED = (NEXT_PANELS + PANELS - 1) / PANELS;

INLINE uint32_t weights_at(int slot) {
    if (!RESIDENT) return slot * SLOT_BYTES;
    const int chunk = slot / PIECES_A_CHUNK, piece = slot - chunk * PIECES_A_CHUNK, behind = piece - STEPS;
    return chunk * CHUNK_BYTES + (behind < 0 ? piece * W_BYTES : STEPS * W_BYTES + behind * V_BYTES);
}
struct Ring {  // a place in the slots of weights
    uint32_t weights, full, empty;
    int slot = 0, phase = 0;
    INLINE void step_on() {
        if (++slot == STAGES) slot = 0, phase = RESIDENT ? phase : phase ^ 1;
    }
};
// sums += what lies at `left`, and COUNT - 1 times `apart` behind it, times the next weights; each slot is freed once read.
template <int COUNT, int SUMS>
INLINE void multiply(float (&sums)[1][SUMS], uint32_t left, uint32_t apart, bool add, Ring& ring, bool leads) {
    int before = 0;
#pragma unroll
    for (int i = 0; i < COUNT; i++, ring.step_on()) {
        barrier_wait(ring.full + 8 * ring.slot, ring.phase);
        multiply_stage(sums, left + i * apart, ring.weights + weights_at(ring.slot), add || i != 0);
        products_wait<1>();
        if (i > 0 && leads) barrier_arrive(ring.empty + 8 * before);
        before = ring.slot;
    }
    products_wait<0>();
    settle(sums[0]);
    if (leads) barrier_arrive(ring.empty + 8 * before);
}
INLINE Tile chunk_of(Tile tile, int chunk) {
    tile.column = chunk * COLUMNS;
    return tile;
}
INLINE float finish_next(float sum, const Epilogue& e) {
    float z = NEXT_ACTIVATION(sum, e.alpha, e.beta);
    return NEXT_GATED ? sum * z : z;
}

extern "C" __global__ void __launch_bounds__(128 * (WARPGROUPS + 1), 1)
    hopper_couple(const __grid_constant__ TensorMap a, const __grid_constant__ TensorMap second,
                  const __grid_constant__ TensorMap b, const __grid_constant__ TensorMap residual,
                  const __grid_constant__ TensorMap out, const __grid_constant__ TensorMap next_b,
                  const __grid_constant__ TensorMap next_out, const float* bias, const float* next_bias,
                  const __grid_constant__ Epilogue next_epilogue, const __grid_constant__ Geometry g) {
    extern __shared__ unsigned char unaligned[];
    unsigned char* shared = unaligned + ((1024 - (shared_address(unaligned) & 1023)) & 1023);
    const uint32_t base = shared_address(shared), weights = base + 1024, pixels = weights + WEIGHT_BYTES;
    const uint32_t staging = pixels + INPUTS * INPUT_BYTES;
    const uint32_t full = base, empty = base + 256, arrived = base + 512, taken = base + 576;  // of weights; of pixels
    const uint32_t finished = base + 640, ready = base + 704, read = base + 768;               // staging tiles
    const int warp = __shfl_sync(~0u, threadIdx.x >> 5, 0), group = warp >> 2;
    if (warp == 0 && elect_one()) {
        for (int i = 0; i < STAGES; i++) barrier_init(full + 8 * i, 1), barrier_init(empty + 8 * i, WARPGROUPS);
        for (int i = 0; i < INPUTS; i++) barrier_init(arrived + 8 * i, 1), barrier_init(taken + 8 * i, WARPGROUPS);
        for (int i = 0; i < STAGING; i++) {
            barrier_init(finished + 8 * i, WARPGROUPS * 128);
            barrier_init(ready + 8 * i, 1), barrier_init(read + 8 * i, WARPGROUPS);
        }
        barrier_init_done();
    }
    __syncthreads();
    let_next_start();
    const int chunks = g.columns / COLUMNS, staged = chunks + NEXT_STAGED;  // staging tiles a tile
    if (group == WARPGROUPS) {
        registers_lower<40>();
        if (warp == WARPGROUPS * 4 && elect_one()) {  // ---- the weights warp: constants, so it waits for nobody
            expect_map(&b);
            expect_map(&next_b);
            Ring ring{weights, full, empty};
            const int last = RESIDENT ? min(g.tiles, blockIdx.x + 1) : g.tiles;
            for (int index = blockIdx.x; index < last; index += gridDim.x)
                for (int chunk = 0; chunk < chunks; chunk++)
                    for (int piece = 0; piece < PIECES_A_CHUNK; piece++, ring.step_on()) {
                        const uint32_t to = weights + weights_at(ring.slot), there = full + 8 * ring.slot;
                        barrier_wait(empty + 8 * ring.slot, ring.phase ^ 1);
                        barrier_expect(there, piece < STEPS ? W_BYTES : V_BYTES);
                        if (piece < STEPS) load_weights(to, &b, g, chunk_of({0, 0, 0, 0}, chunk), piece, there);
                        else load_box(to, &next_b, 0, (chunk * SLICES + piece - STEPS) * NEXT, there);
                    }
        } else if (warp == WARPGROUPS * 4 + 1 && elect_one()) {  // ---- the pixels warp
            expect_map(&a);
            if (PAIRED) expect_map(&second);
            wait_for_previous();
            int count = 0;
            for (int index = blockIdx.x; index < g.tiles; index += gridDim.x, count++) {
                const int slot = count % INPUTS;
                const Tile tile = tile_at(g, index);
                Walk walk(g, tile, 0);
                barrier_wait(taken + 8 * slot, (count / INPUTS & 1) ^ 1);
                barrier_expect(arrived + 8 * slot, INPUT_BYTES);
                for (int step = 0; step < STEPS; step++)
                    walk.load(pixels + slot * INPUT_BYTES + step * A_BYTES, &a, &second, g, tile, arrived + 8 * slot);
            }
        } else if (warp == WARPGROUPS * 4 + 2 && elect_one()) {  // ---- the store warp
            if (RESIDUAL) expect_map(&residual);
            expect_map(&out);
            expect_map(&next_out);
            wait_for_previous();
            auto prepare = [&](int count) {  // the staging tile of this block's `count`th results
                const int index = blockIdx.x + count / staged * gridDim.x, chunk = count % staged, slot = count % STAGING;
                if (!RESIDUAL || chunk >= chunks) barrier_arrive(ready + 8 * slot);
                else if (index < g.tiles)
                    load_residual(staging + slot * STAGING_BYTES, &residual, chunk_of(tile_at(g, index), chunk),
                                  ready + 8 * slot);
            };
            for (int i = 0; i < STAGING; i++) prepare(i);
            int count = 0;
            for (int index = blockIdx.x; index < g.tiles; index += gridDim.x)
                for (int chunk = 0; chunk < staged; chunk++, count++) {
                    const int slot = count % STAGING, phase = count / STAGING & 1;
                    const uint32_t from = staging + slot * STAGING_BYTES;
                    const Tile tile = chunk_of(tile_at(g, index), chunk < chunks ? chunk : chunk - chunks);
                    barrier_wait(finished + 8 * slot, phase);
                    if (chunk < chunks) {
                        for (int q = 0; q < PANELS; q++) store_panel(&out, g, tile, from, q);
                    } else {
                        for (int q = 0; q < PANELS && tile.column + q * PANEL < NEXT; q++)
                            store_box(&next_out, tile.column + q * PANEL, tile.row, from + q * PANEL_BYTES);
                        store_commit();
                    }
                    stores_read();
                    barrier_wait(read + 8 * slot, phase);
                    prepare(count + STAGING);
                }
        }
    } else {  // ---- the consumers
        registers_raise<232>();
        const int lane = threadIdx.x & 31, row = lane >> 2, pair = lane & 3;
        const int own = group * 64 * 128, mine = own + ((warp & 3) * 16 + row) * WIDTH;  // rows of a tile of pixels
        const bool leads = (threadIdx.x & 127) == 0;
        Ring ring{weights, full, empty};
        int count = 0, place = 0;
        for (int index = blockIdx.x; index < g.tiles; index += gridDim.x, count++) {
            const int input = count % INPUTS;
            float next[1][NEXT / 2];
            barrier_wait(arrived + 8 * input, count / INPUTS & 1);
            for (int chunk = 0; chunk < chunks; chunk++, place++) {
                const int spot = place % STAGING;
                const uint32_t stage = staging + spot * STAGING_BYTES;
                float sums[1][COLUMNS / 2];
                multiply<STEPS>(sums, pixels + input * INPUT_BYTES + own, A_BYTES, false, ring, leads);
                if (leads && chunk == chunks - 1) barrier_arrive(taken + 8 * input);
                barrier_wait(ready + 8 * spot, place / STAGING & 1);
                finish_rows(sums[0], shared + (stage - base) + mine, PANEL_BYTES, bias + chunk * COLUMNS, row, pair, g.epilogue, [](int) {});
                publish_shared();
                group_barrier(group + 1, 128);  // the products below read all of this warpgroup's rows
                barrier_arrive(finished + 8 * spot);
                multiply<SLICES>(next, stage + own, PANEL_BYTES, chunk > 0, ring, leads);
                if (leads) barrier_arrive(read + 8 * spot);
            }
#pragma unroll
            for (int part = 0; part < NEXT_STAGED; part++, place++) {
                const int spot = place % STAGING;
                barrier_wait(ready + 8 * spot, place / STAGING & 1);
#pragma unroll
                for (int q = 0; q < PANELS; q++)
                    if (part * PANELS + q < NEXT_PANELS)
                        finish_panel<false>(next[0], part * PANELS + q,
                                            shared + (staging - base) + spot * STAGING_BYTES + q * PANEL_BYTES + mine,
                                            next_bias + (part * PANELS + q) * PANEL, row, pair, next_epilogue.scale,
                                            [&](float sum, float) { return finish_next(sum, next_epilogue); });
                publish_shared();
                barrier_arrive(finished + 8 * spot);
                if (leads) barrier_arrive(read + 8 * spot);
            }
        }
    }
}
