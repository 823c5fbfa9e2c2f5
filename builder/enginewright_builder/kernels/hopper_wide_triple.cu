// hopper_triple.cu for 65 to 128 channels: weights do not fit into shared memory and are streamed through it.
//
//     b = before act(3x3 of x + before bias)       never stored
//     y = act(b w + bias [+ residual])             stored
//     z = next act(y v + next bias)                stored
//
// A tile is DOWN whole rows of a picture. A row of its halo takes WIDE places in shared memory, the padding at its ends
// included, and the 64 rows of a product are 64 places one behind the other: a tap is another start address. What is
// computed at the two places between two rows, and behind the last, is outside of the picture: it is not stored.
//
//     halo, pictures 6 wide (WIDE 8):   # . . . . . . #    the first of 64 places for each tap (0, 0), (0, 1) ... (2, 2)
//                                       # . . . . . . #    is its own row and column here; output (r, c) lies at
//                                       ...                place r * WIDE + c
//
// Weights come in pieces of 16 KB in the order of their use, again for every tile, through a ring of STAGES slots that the
// GROUPS of a block share: a group without a tile at the end takes part with what lies in shared memory, and stores nothing.
//
//   consumer warpgroup of each group:  3x3, then chunk by chunk of 64 channels: b w, epilogue, times v; the next chunk's b w
//                                      meanwhile where there are registers for its sums (AHEAD)
//   weights warp:        all weights
//   mover of each group: the halo as soon as the tile before has multiplied it; the residual into a staging tile early;
//                        stores what is finished
//
// Macros: those of hopper_epilogue.cuh (RESULTS 64, outputs of 2 bytes), ELEMENT, INPUTS (of 64 channels of x), CHUNKS (of y,
// even), NEXT (channels of z, 128 or 256), GROUPS, STAGES, STAGING, WIDE, DOWN, BEFORE_ACTIVATION, BEFORE_GATED,
// NEXT_ACTIVATION, NEXT_GATED.
#include "hopper_triple.cuh"
#include "wgmma.generated"
#include "left_wgmma.generated"

struct Stripes {
    int tiles, down;  // tiles of all images, and of one
    int left, top;
    int reversed;  // walk from the last tile to the first
    Epilogue before, epilogue, next;
};

constexpr bool AHEAD = NEXT == 128;  // whether there are registers for the next chunk's sums
constexpr int TAPS = 9, MIDDLE = 128, SLICES = NEXT / 128;
constexpr int BOX_BYTES = 64 * 128, PIECE_BYTES = 2 * BOX_BYTES;  // a box is 64 outputs of 64 channels, or 64 places of them
constexpr int HALO_BYTES = (DOWN + 2) * WIDE * 128;               // of 64 channels
constexpr int HALO_SPAN = ((2 * WIDE + 2 + 64) * 128 + 1023) / 1024 * 1024;
constexpr int NEXT_PANELS = NEXT / 64, STAGED = CHUNKS + NEXT_PANELS;  // staging tiles a tile
constexpr int STORED_BYTES = DOWN * WIDE * 128;

struct Ring {  // a place in the slots of weights
    uint32_t pieces, full;
    int slot = 0, phase = 0;
    INLINE void step_on() {
        if (++slot == STAGES) slot = 0, phase ^= 1;
    }
    INLINE uint64_t next() {  // the next piece, once it is there
        barrier_wait(full + 8 * slot, phase);
        const uint64_t at = operand<128>(pieces + slot * PIECE_BYTES, 1024);
        step_on();
        return at;
    }
};
struct Spot {
    int y, image;
};
INLINE Spot spot_of(const Stripes& p, int tile) {
    if (p.reversed) tile = p.tiles - 1 - tile;
    const int image = tile / p.down;
    return {(tile - image * p.down) * DOWN, image};
}

extern "C" __global__ void __launch_bounds__(128 * (GROUPS + 1), 1)
    hopper_wide_triple(const __grid_constant__ TensorMap a, const __grid_constant__ TensorMap taps_map,
                       const __grid_constant__ TensorMap w_map, const __grid_constant__ TensorMap v_map,
                       const __grid_constant__ TensorMap residual, const __grid_constant__ TensorMap out,
                       const __grid_constant__ TensorMap next_out, const float* before_bias, const float* bias,
                       const float* next_bias, const __grid_constant__ Stripes p) {
    extern __shared__ __align__(1024) unsigned char shared[];
    const uint32_t base = shared_address(shared), pieces = base + 1024, halos = pieces + STAGES * PIECE_BYTES;
    const int warp = __shfl_sync(~0u, threadIdx.x >> 5, 0), group = warp >> 2;
    const int side = group < GROUPS ? group : (warp & 3) - 1;  // this warp's group; -1: it fetches weights
    const uint32_t halo = halos + side * INPUTS * HALO_SPAN;
    const uint32_t staging = halos + GROUPS * INPUTS * HALO_SPAN + side * STAGING * BOX_BYTES;
    const uint32_t full = base, empty = base + 128;  // of the ring
    const uint32_t mine = base + 256 + side * 256, arrived = mine, read = mine + 8;  // the halo
    const uint32_t ready = mine + 64, finished = mine + 128;                         // staging tiles
    if (threadIdx.x < 128) {
        const int at = 8 * threadIdx.x;  // all that there is room for
        barrier_init(base + at, at >= 256 ? (at & 128 ? 128 : 1) : at >= 128 ? GROUPS : 1);
        barrier_init_done();
    }
    __syncthreads();
    const int first = blockIdx.x + side * gridDim.x, apart = gridDim.x * GROUPS;
    const int rounds = (p.tiles - (int)blockIdx.x + apart - 1) / apart;  // tiles of the first group
    if (group == GROUPS) {
        if (GROUPS > 1) registers_lower<24>();
        if (side < 0 && elect_one()) {  // ---- the weights warp: constants, so it waits for nobody
            expect_map(&taps_map), expect_map(&w_map), expect_map(&v_map);
            int slot = 0, phase = 1;
            auto fetch = [&](const TensorMap* map, int x, int y, int down) {  // two boxes, the second so many rows further
                const uint32_t to = pieces + slot * PIECE_BYTES, there = full + 8 * slot;
                barrier_wait(empty + 8 * slot, phase);
                barrier_expect(there, PIECE_BYTES);
                load_box(to, map, x, y, there), load_box(to + BOX_BYTES, map, x, y + down, there);
                if (++slot == STAGES) slot = 0, phase ^= 1;
            };
            for (int round = 0; round < rounds; round++) {
#pragma unroll 1  // this warp has few registers
                for (int i = 0; i < TAPS * INPUTS; i++) fetch(&taps_map, i * 64, 0, 64);
                fetch(&w_map, 0, 0, CHUNKS * 64);
#pragma unroll 1
                for (int chunk = 0; chunk < CHUNKS; chunk++) {
                    if (chunk + 1 < CHUNKS) fetch(&w_map, 0, (chunk + 1) * 64, CHUNKS * 64);
                    for (int i = 0; i < SLICES; i++) fetch(&v_map, 0, chunk * NEXT + i * 128, 64);
                }
            }
        } else if (side >= 0 && side < GROUPS && elect_one()) {  // ---- the movers
            expect_map(&a), expect_map(&out), expect_map(&next_out);
            if (RESIDUAL) expect_map(&residual);
            auto fetch_halo = [&](int tile) {
                if (tile >= p.tiles) return barrier_arrive(arrived);
                const Spot spot = spot_of(p, tile);
                barrier_expect(arrived, INPUTS * HALO_BYTES);
                for (int i = 0; i < INPUTS; i++)
                    load_box(halo + i * HALO_SPAN, &a, i * 64, -p.left, spot.y - p.top, spot.image, arrived);
            };
            int coming = first, chunk = 0, place = 0;  // what comes into the staging tiles next
            auto prepare = [&] {
                if (!RESIDUAL || chunk >= CHUNKS || coming >= p.tiles) barrier_arrive(ready + 8 * place);
                else {
                    const Spot spot = spot_of(p, coming);
                    barrier_expect(ready + 8 * place, STORED_BYTES);
                    load_box(staging + place * BOX_BYTES, &residual, chunk * 64, 0, spot.y, spot.image, ready + 8 * place);
                }
                if (++chunk == STAGED) chunk = 0, coming += apart;
                if (++place == STAGING) place = 0;
            };
            wait_for_previous();
            fetch_halo(first);
            for (int i = 0; i < STAGING; i++) prepare();
            let_next_start();  // earlier, its blocks would take copies from this one's
            int slot = 0, turn = 0;
            for (int round = 0, tile = first; round < rounds; round++, tile += apart) {
                if (round + 1 < rounds) {
                    barrier_wait(read, round & 1);
                    fetch_halo(tile + apart);
                }
                const Spot spot = spot_of(p, tile);
#pragma unroll 1
                for (int i = 0; i < STAGED; i++) {
                    barrier_wait(finished + 8 * slot, turn);
                    if (tile < p.tiles) {
                        store_box(i < CHUNKS ? &out : &next_out, (i < CHUNKS ? i : i - CHUNKS) * 64, 0, spot.y, spot.image,
                                  staging + slot * BOX_BYTES);
                        store_commit();
                        stores_read();
                    }
                    prepare();
                    if (++slot == STAGING) slot = 0, turn ^= 1;
                }
            }
        }
    } else {  // ---- the consumers
        if (GROUPS > 1) registers_raise<240>();
        const int thread = threadIdx.x & 127, lane = threadIdx.x & 31, row = lane >> 2, pair = lane & 3;
        unsigned char* const rows = shared + (staging - base) + ((warp & 3) * 16 + row) * WIDTH;
        const uint64_t window = operand<128>(halo, 1024);
        Ring ring{pieces, full};
        int spot = 0, turn = 0, freed = 0;  // of the staging tiles; of the ring
        auto release = [&](int count) {
            for (int i = 0; i < count; i++) {
                if (thread == 0) barrier_arrive(empty + 8 * freed);
                if (++freed == STAGES) freed = 0;
            }
        };
        auto step_on = [&] {
            publish_shared();
            barrier_arrive(finished + 8 * spot);
            if (++spot == STAGING) spot = 0, turn ^= 1;
        };
        keep(started<MIDDLE>(before_bias, thread) + started<CHUNKS * 64>(bias, thread) + started<NEXT>(next_bias, thread));
        for (int round = 0; round < rounds; round++) {
            float next[SLICES][64];  // the first of them is the 3x3 convolution's at first
            uint32_t b[8][4];
            barrier_wait(arrived, round & 1);
            if (GROUPS > 1 && round == 0 && side == 1) group_barrier(1, 256);  // one's epilogues hide behind the other's products
            for (int i = 0, panel = 0; panel < INPUTS; panel++)
                for (int tap = 0; tap < TAPS; tap++, i++) {
                    const uint64_t at = ring.next(), from = window + (panel * HALO_SPAN / 16 + (tap / 3 * WIDE + tap % 3) * 8);
                    products_begin();
#pragma unroll
                    for (int k = 0; k < 4; k++) multiply_add(next[0], from + k * 2, at + k * 2, (i | k) != 0);
                    products_commit();
                    products_wait<1>();
                    if (i > 0) release(1);
                    if (GROUPS > 1 && round == 0 && side == 0 && i == 2) group_arrive(1, 256);
                }
            products_wait<0>();
            settle(next[0]);
            release(1);
            if (thread == 0) barrier_arrive(read);
#pragma unroll
            for (int half = 0; half < 2; half++)
                finish_channels<8>(next[0], half * 8, before_bias + half * 64, pair, p.before.scale,
                                   [&](int j, int h, float low, float high) {
                                       b[half * 4 + j / 2][j % 2 * 2 + h] =
                                           pack(OUTPUT{}, finish_before(low, p.before), finish_before(high, p.before));
                                   });
            float sums[1 + AHEAD][32];
            uint32_t y[1 + AHEAD][4][4];  // of two chunks: while one is multiplied the other is made
            auto expand = [&](float (&sum)[32]) {
                const uint64_t at = ring.next();
#pragma unroll
                for (int k = 0; k < 8; k++) multiply_add(sum, b[k], at + (k / 4 * BOX_BYTES / 16 + k % 4 * 2), k != 0);
                products_commit();
            };
            products_begin();
            expand(sums[0]);
#pragma unroll(AHEAD ? CHUNKS : 1)
            for (int both = 0; both < CHUNKS; both += 2)
#pragma unroll
                for (int odd = 0; odd < 2; odd++) {
                    const int chunk = both + odd;
                    const bool last = chunk + 1 == CHUNKS;
                    float(&sum)[32] = sums[AHEAD ? odd : 0];
                    uint32_t(&made)[4][4] = y[AHEAD ? odd : 0];
                    if (AHEAD && !last) {
                        products_begin();
                        expand(sums[AHEAD ? 1 - odd : 0]);
                    }
                    if (!AHEAD) products_wait<0>();
                    else if (chunk == 0 || last) products_wait<1>();
                    else products_wait<2>();
                    settle(sum);
                    release(chunk > AHEAD ? 1 + SLICES : 1);
                    unsigned char* const stage = rows + spot * BOX_BYTES;
                    barrier_wait(ready + 8 * spot, turn);
                    finish_tile<RESIDUAL, AHEAD ? 8 : 4>(sum, stage, bias + chunk * 64, row, pair, p.epilogue.scale,
                                          [&](float value) { return finish(value, p.epilogue); },
                                          [&](int j, int h, uint32_t two) { made[j / 2][j % 2 * 2 + h] = two; });
                    step_on();
                    products_begin();
                    if (!AHEAD && !last) expand(sums[0]);
#pragma unroll
                    for (int i = 0; i < SLICES; i++) {
                        const uint64_t at = ring.next();
#pragma unroll
                        for (int k = 0; k < 4; k++) multiply_add(next[i], made[k], at + k * 2, (chunk | k) != 0);
                    }
                    products_commit();
                }
            products_wait<0>();
            release(SLICES * (1 + AHEAD));
#pragma unroll
            for (int i = 0; i < SLICES; i++) settle(next[i]);
#pragma unroll
            for (int panel = 0; panel < NEXT_PANELS; panel++) {
                unsigned char* const stage = rows + spot * BOX_BYTES;
                barrier_wait(ready + 8 * spot, turn);
                finish_channels<8>(next[panel / 2], panel % 2 * 8, next_bias + panel * 64, pair, p.next.scale,
                                [&](int j, int h, float low, float high) {
                                    *(uint32_t*)(stage + place(j, row, pair) + h * 8 * WIDTH) =
                                        pack(OUTPUT{}, finish_next(low, p.next), finish_next(high, p.next));
                                });
                step_on();
            }
        }
    }
}
