// The end of a tile of hopper_latency_conv.cu, which includes this where its constants stand: sums that lie in registers
// as wgmma left them become activated outputs in NHWC, by way of shared memory.
//
//     one block:   registers -> staging area (64 channels a pixel, one row of 128 bytes) -> 16-byte stores
//     a cluster:   registers -> the owners' landing areas, pushed -> added there -> 8-byte stores
#pragma once

// A residual that is not there, for FINISH.
DEVICE float2 nothing() { return make_float2(0.f, 0.f); }

// What a thread stores of a tile: places in the operands and whether they exist. Found before the product, since nothing
// should be left to compute when the sums are there.
struct Stores {
  u16* target[ROUNDS];
  const u16* residual[ROUNDS];
  bool inside[ROUNDS];
};

DEVICE void place_stores(const Place& at, const Sizes& sizes, u16* y, const u16* residual, int row, Stores& to) {
  if (MEAN) {  // two channels by one thread of four
    const int channel = at.channel + at.warp * 16 + 2 * (at.lane >> 2);
    to.target[0] = y + channel, to.inside[0] = (at.lane & 3) == 0 && channel < sizes.outputs;
    return;
  }
  UNROLL for (int i = 0; i < ROUNDS; i++) {
    int down, column, channel;
    if (SPLITS == 1) {  // 8 channels of a pixel
      const int item = at.thread + i * 128, pixel = item >> 3;
      down = pixel / STAGE_COLUMNS, column = pixel % STAGE_COLUMNS, channel = at.channel + (item & 7) * 8;
      to.inside[i] = item < STAGE_BYTES / 16;
    } else {  // 4 channels of a pixel, see finish_together
      const int unit = (at.rank * SHARE & ~127) + i * 128 + at.thread, g = at.lane >> 2;
      down = unit >> 7, column = 2 * (at.lane & 3) + (g & 1), channel = at.channel + at.warp * 16 + 2 * (g & ~1);
      to.inside[i] = unit / SHARE == at.rank && down < TILE_ROWS;
      if (POOL) {  // the window's left column and upper row store it
        to.inside[i] = to.inside[i] && !((g | down) & 1);
        down >>= 1, column >>= 1;
      }
    }
    const int first = at.column / SHRUNK;
    to.inside[i] = to.inside[i] && column < sizes.columns / SHRUNK && first + column < sizes.width &&
                   channel < sizes.outputs && row + down < sizes.height;
    to.target[i] = y + (u32)((row + down) * sizes.y_row + (first + column) * sizes.y_pixel + channel);
    if (SPLITS > 1 && RESIDUAL)
      to.residual[i] = residual + (u32)((row + down) * sizes.residual_row +
                                        (at.column + column) * sizes.residual_pixel + channel);
  }
}

// A block that sums all channels: sums to the staging area in the copy engine's swizzle (a row of 128 bytes a pixel, so
// that the residual can come there by copy), then whole rows from there to y.
DEVICE void finish_alone(const Place& at, const Sizes& sizes, const Stores& to, u8* memory, float (&d)[4 * TILE_ROWS],
                         float2 bias, int buffer, int parity) {
  u8* stage = memory + (finish_at(at, buffer) - at.shared);
  const int g = at.lane >> 2, t = at.lane & 3, chunk = 2 * at.warp + (g >> 2);
  if (POOL) {
    u8* mine = stage + t * 128 + (g & 3) * 4;
    UNROLL for (int j = 0; j < TILE_ROWS; j += 2) {
      u32 best[2];
      UNROLL for (int h = 0; h < 2; h++) {
        const float* sum = d + 4 * (j + h);
        best[h] = larger_pair(FINISH(sum[0] + bias.x, sum[2] + bias.y, nothing()),
                              FINISH(sum[1] + bias.x, sum[3] + bias.y, nothing()));
      }
      *(u32*)(mine + j * 256 + ((chunk ^ (t + (j & 2) * 2)) << 4)) = larger_pair(best[0], best[1]);
    }
  }
  u8* even = stage + 2 * t * 128 + ((chunk ^ 2 * t) << 4) + (g & 3) * 4;
  u8* odd = stage + (2 * t + 1) * 128 + ((chunk ^ (2 * t + 1)) << 4) + (g & 3) * 4;
  u32 residual[2 * TILE_ROWS];
  if (RESIDUAL) {  // all loads before the first store, else each would wait for it
    barrier_wait(residual_barrier(at, buffer), parity);
    UNROLL for (int j = 0; j < TILE_ROWS; j++) {
      residual[2 * j] = *(const u32*)(even + j * 1024);
      residual[2 * j + 1] = *(const u32*)(odd + j * 1024);
    }
  }
  float2 mean = make_float2(0.f, 0.f);
  UNROLL for (int j = 0; j < (POOL ? 0 : TILE_ROWS); j++) UNROLL for (int h = 0; h < 2; h++) {
    const float first = d[4 * j + h] + bias.x, second = d[4 * j + 2 + h] + bias.y;
    const float2 r = RESIDUAL ? unpack(residual[2 * j + h]) : nothing();
    const u32 finished = FINISH(first, second, r);
    if (!MEAN) *(u32*)((h ? odd : even) + j * 1024) = finished;
    else if (j < sizes.height && 2 * t + h < sizes.width) {
      const float2 v = unpack(finished);
      mean.x += v.x, mean.y += v.y;
    }
  }
  if (MEAN) {
    UNROLL for (int step = 1; step < 4; step *= 2) {
      mean.x += __shfl_xor_sync(~0u, mean.x, step);
      mean.y += __shfl_xor_sync(~0u, mean.y, step);
    }
    const float share = 1.f / (float)(sizes.width * sizes.height);
    const u32 both = pack(mean.x * share, mean.y * share);
    if (to.inside[0]) to.target[0][0] = (u16)both, to.target[0][1] = (u16)(both >> 16);  // any place of two bytes will do
    return;
  }
  sync_warpgroup(at.warpgroup);
  const u8* source = stage + (at.thread >> 3) * 128 + (((at.thread & 7) ^ (at.thread >> 3 & 7)) << 4);
  uint4 v[ROUNDS];
  UNROLL for (int i = 0; i < ROUNDS; i++)
    if (STAGE_BYTES / 16 % 128 == 0 || i < ROUNDS - 1 || at.thread < STAGE_BYTES / 16 % 128)
      v[i] = *(const uint4*)(source + i * 2048);
  UNROLL for (int i = 0; i < ROUNDS; i++) store16_if(to.inside[i], to.target[i], v[i]);
}

// One of several blocks: sums to their owners, then the own share: add, bias, residual, activation, store. A unit is
// finished by the thread that has its own sums, in whichever block that is.
DEVICE void finish_together(const Place& at, const Stores& to, u8* memory, float (&d)[4 * TILE_ROWS],
                            float4 bias, const uint2 (&residual)[ROUNDS], int buffer, int parity) {
  const u32 landing = finish_at(at, buffer), barrier = landing_barrier(at, buffer);
  float4 own[ROUNDS];
  UNROLL for (int i = 0; i < ROUNDS; i++) own[i] = make_float4(0.f, 0.f, 0.f, 0.f);
  UNROLL for (int j = 0; j < TILE_ROWS; j++) {
    const int owner = SHARE >= 128 ? j * 128 / SHARE : (j * 128 + at.warp * 32) / SHARE;
    const int unit = SHARE >= 128 ? j * 128 % SHARE + at.thread : at.thread % SHARE;
    const float* sum = d + 4 * j;
    if (owner == at.rank) {
      own[j % ROUNDS] = make_float4(sum[0], sum[1], sum[2], sum[3]);
    } else {
      const int place = (at.rank - owner - 1) & (SPLITS - 1);
      const u32 there = address_in(owner, barrier), target = there + (landing - barrier) + (place * SHARE + unit) * UNIT_BYTES;
      if (HALF_PARTIALS)
        push8(target, make_uint2(pack_float16(sum[0], sum[1]), pack_float16(sum[2], sum[3])), there);
      else
        push16(target, make_uint4(__float_as_uint(sum[0]), __float_as_uint(sum[1]), __float_as_uint(sum[2]),
                                  __float_as_uint(sum[3])), there);
    }
  }
  barrier_wait(barrier, parity);
  const u8* landed = memory + (landing - at.shared);
  uint2 above = make_uint2(0, 0);
  UNROLL for (int i = 0; i < ROUNDS; i++) {
    const int unit = SHARE >= 128 ? at.thread + i * 128 : at.thread % SHARE;
    float4 sum = own[i];
    UNROLL for (int place = 0; place < SPLITS - 1; place++) {
      const u8* from = landed + (place * SHARE + unit) * UNIT_BYTES;
      if (HALF_PARTIALS) {
        const uint2 v = *(const uint2*)from;
        const float2 a = unpack_float16(v.x), b = unpack_float16(v.y);
        sum.x += a.x, sum.y += a.y, sum.z += b.x, sum.w += b.y;
      } else {
        const float4 v = *(const float4*)from;
        sum.x += v.x, sum.y += v.y, sum.z += v.z, sum.w += v.w;
      }
    }
    // A unit is two channels of two pixels: lanes g and g ^ 1 swap halves, so that each has four channels of one pixel.
    const bool odd = at.lane >> 2 & 1;
    const float a = __shfl_xor_sync(~0u, odd ? sum.x : sum.y, 4), b = __shfl_xor_sync(~0u, odd ? sum.z : sum.w, 4);
    float4 v = odd ? make_float4(a, b, sum.y, sum.w) : make_float4(sum.x, sum.z, a, b);
    v.x += bias.x, v.y += bias.y, v.z += bias.z, v.w += bias.w;
    const float2 p = RESIDUAL ? unpack(residual[i].x) : nothing(), q = RESIDUAL ? unpack(residual[i].y) : nothing();
    uint2 made = make_uint2(FINISH(v.x, v.y, p), FINISH(v.z, v.w, q));
    if (POOL && i % 2 == 0) {
      above = made;
      continue;
    }
    if (POOL) {
      made = make_uint2(larger_pair(above.x, made.x), larger_pair(above.y, made.y));
      made = make_uint2(larger_pair(made.x, __shfl_xor_sync(~0u, made.x, 4)), larger_pair(made.y, __shfl_xor_sync(~0u, made.y, 4)));
    }
    store8_if(to.inside[i / SHRUNK * SHRUNK], to.target[i / SHRUNK * SHRUNK], made);
  }
}
