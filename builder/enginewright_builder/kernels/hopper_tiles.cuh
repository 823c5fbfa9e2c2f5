// What the matrix kernels share: which tile is where, and how its operands reach shared memory.
//
// k is cut into chunks of CHUNK, each a row of a swizzled panel (ROWS or COLUMNS rows of CHUNK * 2 bytes); 64 k are a stage.
// a is a matrix (WINDOWED 0), or a picture in NHWC whose windows TMA gathers itself (im2col mode: k is tap by tap, in each
// tap by channel). PAIRED appends the channels of a second picture, read at 1x1 with strides, as further k.
// b lies as [channel][k] (K_MAJOR), or as [k][channel], then in panels of 64 channels. Where it is constant it is PACKED:
// [chunk][channel][CHUNK], so that what a tile needs next is one run of memory. Behind the last channel of a chunk follow
// those of the next: they meet columns that are never stored. The file that includes this defines ROWS before it.
//
// With a max pool a window's results have to meet: each 64 rows are a patch of PATCH_WIDTH x PATCH_HEIGHT pixels of
// PATCH_IMAGES pictures (hopper_epilogue.cuh), which TMA brings as a box, shifted by the tap; patches are numbered as
// pixels are otherwise.
#pragma once
#include "hopper.cuh"
#include "hopper_epilogue.cuh"
#include "wgmma.generated"


struct Geometry {
    int tiles, column_tiles, row_tiles, steps;  // steps: stages a tile
    int chunks, taps_x, first_chunks, all_chunks;  // chunks a tap, of the first operand, of both
    int width, pixels;                             // of the output picture; with a pool, in patches
    int stride_x, stride_y, left, top, dilation_x, dilation_y, second_stride_x, second_stride_y;
    int batch_inner, a_inner, a_outer, b_inner, b_outer;  // matrices: tile / (column_tiles * row_tiles) is outer * inner
    int reversed;  // walk from the last tile to the first
    int columns;   // of all tiles
    Epilogue epilogue;
};

constexpr int PIECES = 64 / CHUNK;
constexpr int A_PIECE = ROWS * CHUNK * 2, B_PIECE = COLUMNS * CHUNK * 2;
constexpr int A_BYTES = ROWS * 128, STAGE_BYTES = A_BYTES + COLUMNS * 128;

struct Tile {
    int row, column, inner, outer;
};
INLINE Tile tile_at(const Geometry& g, int index) {
    if (g.reversed) index = g.tiles - 1 - index;
    int column = index % g.column_tiles, rest = index / g.column_tiles;
    if (!BATCHED) return {rest * ROWS, column * COLUMNS, 0, 0};
    int row = rest % g.row_tiles, batch = rest / g.row_tiles;
    return {row * ROWS, column * COLUMNS, batch % g.batch_inner, batch / g.batch_inner};
}

INLINE void load_weights(uint32_t to, const TensorMap* b, const Geometry& g, const Tile& tile, int step, uint32_t full) {
    int inner = tile.inner * g.b_inner, outer = tile.outer * g.b_outer;
#pragma unroll
    for (int i = 0; i < (K_MAJOR ? PIECES : COLUMNS / 64); i++) {
        int x = K_MAJOR ? step * 64 + i * CHUNK : tile.column + i * 64, y = K_MAJOR ? tile.column : step * 64;
        uint32_t piece = to + i * (K_MAJOR ? B_PIECE : 64 * 128);
        if (PACKED) load_box(piece, b, 0, (step * PIECES + i) * g.columns + tile.column, full);
        else if (BATCHED) load_box(piece, b, x, y, inner, outer, full);
        else load_box(piece, b, x, y, full);
    }
}

struct Patch {
    int x, y, image;
};
INLINE Patch patch_at(const Geometry& g, const Tile& tile) {
    int index = tile.row / 64, image = index / g.pixels, rest = index - image * g.pixels, y = rest / g.width;
    return {(rest - y * g.width) * PATCH_WIDTH, y * PATCH_HEIGHT, image * PATCH_IMAGES};
}
INLINE void step_on(Patch& patch, const Geometry& g) {
    patch.x += PATCH_WIDTH;
    if (patch.x < g.width * PATCH_WIDTH) return;
    patch.x = 0, patch.y += PATCH_HEIGHT;
    if (patch.y * g.width < g.pixels * PATCH_HEIGHT) return;
    patch.y = 0, patch.image += PATCH_IMAGES;
}

// Walks over the chunks of k of one tile: taps in rows, channels within a tap.
struct Walk {
    int image, y, x, chunk = 0, channel = 0, tap_x = 0, tap_y = 0;
    Patch first_patch;
    INLINE Walk(const Geometry& g, const Tile& tile, int first) : chunk(first) {
        image = y = x = 0;
        if ((WINDOWED || PAIRED) && !POOLED) {
            image = tile.row / g.pixels;
            int pixel = tile.row - image * g.pixels;
            y = pixel / g.width, x = pixel - y * g.width;
        }
        first_patch = POOLED ? patch_at(g, tile) : Patch{0, 0, 0};
        if (WINDOWED && first > 0) {
            int tap = first / g.chunks;
            channel = first - tap * g.chunks, tap_y = tap / g.taps_x, tap_x = tap - tap_y * g.taps_x;
        }
    }
    INLINE void load(uint32_t to, const TensorMap* a, const TensorMap* second, const Geometry& g, const Tile& tile,
                     uint32_t full) {
        if (PAIRED && chunk >= g.first_chunks) {  // behind all chunks: channels that do not exist, which arrive as zeros
            load_pixels(to, second, (chunk - g.first_chunks) * CHUNK, x * g.second_stride_x, y * g.second_stride_y, image,
                        0, 0, full);
        } else if (WINDOWED) {
            const bool behind = PIECES > 1 && chunk >= g.all_chunks;
            const int from = behind ? g.chunks * CHUNK : channel * CHUNK;
            const int dx = behind ? 0 : tap_x * g.dilation_x, dy = behind ? 0 : tap_y * g.dilation_y;
            Patch patch = first_patch;
#pragma unroll
            for (int i = 0; i < (POOLED ? ROWS / 64 : 0); i++, step_on(patch, g))
                load_box(to + i * 64 * CHUNK * 2, a, from, patch.x + dx - g.left, patch.y + dy - g.top, patch.image, full);
            if (!POOLED) load_pixels(to, a, from, x * g.stride_x - g.left, y * g.stride_y - g.top, image, dx, dy, full);
            if (++channel == g.chunks) {
                channel = 0;
                if (++tap_x == g.taps_x) tap_x = 0, tap_y++;
            }
        } else if (BATCHED) {
            load_box(to, a, chunk * CHUNK, tile.row, tile.inner * g.a_inner, tile.outer * g.a_outer, full);
        } else {
            load_box(to, a, chunk * CHUNK, tile.row, full);
        }
        chunk++;
    }
};

// sums += the products of one stage, 16 k at a time; `a` is where the warpgroup's first row lies.
template <int HIGH, int SUMS>
INLINE void multiply_stage(float (&sums)[HIGH][SUMS], uint32_t a, uint32_t b, bool add) {
    products_begin();
#pragma unroll
    for (int i = 0; i < 4; i++) {
        const int piece = i / (CHUNK / 16), within = i % (CHUNK / 16) * 32;
        const uint64_t right = K_MAJOR ? operand<CHUNK * 2>(b + piece * B_PIECE + within, CHUNK * 16)
                                       : operand<128>(b + i * 2048, 1024, 8192);
#pragma unroll
        for (int h = 0; h < HIGH; h++)
            multiply_add(sums[h], operand<CHUNK * 2>(a + piece * A_PIECE + h * 64 * CHUNK * 2 + within, CHUNK * 16), right,
                         add || i != 0);
    }
    products_commit();
}

// The staging tile: ROWS rows of RESULTS results (with a pool, a quarter of them), panel by panel. Each is stored as soon as
// it is there, while the next is computed.
constexpr int STAGED_ROWS = 64 / KEPT, PANEL_BYTES = ROWS / KEPT * WIDTH, STAGING_BYTES = PANELS * PANEL_BYTES;

INLINE void load_residual(uint32_t to, const TensorMap* residual, const Tile& tile, uint32_t arrived) {
    barrier_expect(arrived, STAGING_BYTES);
    for (int q = 0; q < PANELS; q++) {
        int x = tile.column + q * PANEL;
        if (BATCHED) load_box(to + q * PANEL_BYTES, residual, x, tile.row, tile.inner, tile.outer, arrived);
        else load_box(to + q * PANEL_BYTES, residual, x, tile.row, arrived);
    }
}
INLINE void store_panel(const TensorMap* out, const Geometry& g, const Tile& tile, uint32_t from, int q) {
    const int x = tile.column + q * PANEL;
    from += q * PANEL_BYTES;
    if (POOLED) {
        Patch patch = patch_at(g, tile);
        for (int i = 0; i < ROWS / 64; i++, step_on(patch, g))
            store_box(out, x, patch.x / SHRUNK, patch.y / SHRUNK, patch.image, from + i * STAGED_ROWS * WIDTH);
    } else if (BATCHED) store_box(out, x, tile.row, tile.inner, tile.outer, from);
    else store_box(out, x, tile.row, from);
    store_commit();
}
