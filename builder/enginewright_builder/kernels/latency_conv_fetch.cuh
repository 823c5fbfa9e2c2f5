// What a block of hopper_latency_conv.cu fetches, which includes this where its constants stand: weights, whole or in
// pieces, and tiles of pixels.
//
//     pieces in the order in which they are multiplied    0 1 2 3 4 5 6 7 8 ...
//     where SLOTS hold fewer, here 4                      0 1 2 3 | 0 1 2 3 | 0 ...   a piece comes into a slot when all
//                                                         warps have multiplied what was in it
#pragma once

DEVICE void fetch_weights(const Place& at, int piece) {
  constexpr int COPY = 24576;
  const u32 barrier = weight_barrier(at, piece % SLOTS);
  barrier_expect(barrier, PIECE_BYTES * WARPGROUPS);
  UNROLL for (int group = 0; group < WARPGROUPS; group++) {
    const u8* source = at.weights + (u64)group * SPLITS * WEIGHT_BYTES + piece * PIECE_BYTES;
    const u32 target = at.shared + WEIGHTS_AT + group * HELD_BYTES + piece % SLOTS * PIECE_BYTES;
    UNROLL for (int k = 0; k < PIECE_BYTES; k += COPY)
      copy_to_shared(target + k, source + k, PIECE_BYTES - k < COPY ? PIECE_BYTES - k : COPY, barrier, at.policy);
  }
}

// Announces what `fetch_tile` will bring; apart from it, since this needs no result of the previous kernel.
DEVICE void expect_tile(const Place& at, int buffer) {
  UNROLL for (int block = 0; block < BLOCKS; block++) barrier_expect(pixel_barrier(at, buffer, block), ARRIVING_BYTES);
  if (SPLITS > 1) barrier_expect(landing_barrier(at, buffer), landing_bytes(at));
  else if (RESIDUAL) barrier_expect(residual_barrier(at, buffer), STAGE_BYTES * WARPGROUPS);
}

DEVICE void fetch_tile(const Place& at, const Maps& maps, int buffer, int image, int row) {
  UNROLL for (int block = 0; block < BLOCKS; block++) {
    const int channel = (at.rank * BLOCKS + block) * BLOCK_CHANNELS;
    const u32 target = buffer_at(at, buffer) + block * BLOCK_BYTES, barrier = pixel_barrier(at, buffer, block);
    if (PAIR && channel >= PAIR_FROM)
      copy_box(target, maps.pair, channel - PAIR_FROM, at.column * PAIR_STRIDE_W, row * PAIR_STRIDE_H, image, barrier);
    else
      UNROLL for (int part = 0; part < PARTS; part++)
        copy_box(target + part * PART_BYTES, maps.x, channel, at.column * STRIDE_W - PAD_W + part,
                 row * STRIDE_H - PAD_H, image, barrier);
  }
  if (SPLITS == 1 && RESIDUAL)
    UNROLL for (int group = 0; group < WARPGROUPS; group++)
      copy_box(buffer_at(at, buffer) + TILE_BYTES + group * STAGE_BYTES, maps.residual,
               at.channel + (group - at.group) * 64, at.column, row, image, residual_barrier(at, buffer));
}

// A piece's products are done as soon as those of the next one alone are left. When all warps say so, another piece takes
// its place.
DEVICE void replace_weights(const Place& at, int piece) {
  products_wait_but_one();
  if (piece + SLOTS >= PIECES) return;
  if (is_elected()) {
    barrier_arrive(free_barrier(at, piece % SLOTS));
    if (at.warp == 0 && at.warpgroup == 0) {
      barrier_wait(free_barrier(at, piece % SLOTS), piece / SLOTS & 1);
      fetch_weights(at, piece + SLOTS);
    }
  }
  __syncwarp();
}
