// What kernels of triples in patches of 8 x 8 pixels share (hopper_triple.cu, hopper_small_triple.cu): sizes and tiles.
//
// Macros: PAIRED, CHUNKS (of y), NEXT (channels of z).
#pragma once
#include "hopper_epilogue.cuh"

struct Pictures {
    int tiles, across, down;  // tiles of all images, and of one
    int left, top;
    int reversed;  // walk from the last tile to the first
    Epilogue before, epilogue, next;
};

constexpr int SIDE = 8, EDGE = SIDE + 2, TAPS = 9, STEPS = 1 + PAIRED;
constexpr int HALO_BYTES = EDGE * EDGE * 128, HALO_SPAN = (HALO_BYTES + 1023) / 1024 * 1024;
constexpr int BOX_BYTES = 64 * 128;  // 64 pixels or outputs of 64 channels
constexpr int TAPS_BYTES = TAPS * BOX_BYTES, W_BYTES = CHUNKS * STEPS * BOX_BYTES, V_BYTES = CHUNKS * NEXT * 128;
constexpr int NEXT_PANELS = NEXT / 64, STAGED = CHUNKS + NEXT_PANELS;  // staging tiles a tile

struct Spot {
    int x, y, image;
};
INLINE Spot spot_of(const Pictures& p, int tile) {
    if (p.reversed) tile = p.tiles - 1 - tile;
    int a_picture = p.across * p.down, image = tile / a_picture, rest = tile - image * a_picture, y = rest / p.across;
    return {(rest - y * p.across) * SIDE, y * SIDE, image};
}
