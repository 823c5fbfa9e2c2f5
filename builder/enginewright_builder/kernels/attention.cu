// softmax(scale q k^T + mask) v; the scores never leave the registers. FlashAttention-2 (Dao 2023, arXiv 2307.08691,
// algorithm 1): a softmax that is corrected while keys go by, and one division at the end.
//
// A block makes 16 ROW_WARPS rows of one head. Its warps stand ROW_WARPS x KEY_WARPS: those side by side share 16 rows and
// take KEYS keys each of a step, with a maximum and a sum of their own, and are joined at the end. So few rows a block,
// which a small batch needs to fill the device, do not mean few warps.
//
//     shared memory   | q | k, one stage or two    | v, one stage or two |
//                     | parts, then what joins them|
//
// Rows there are 16 bytes longer than their numbers, which makes them an odd number of 16-byte units: eight rows at one
// column lie in different banks. The parts take the place of q and k, which nobody reads after the last scores.
//
// Set before this text: ELEMENT_IS_BFLOAT16, HEAD, VALUE (d and e, multiples of 8), ROW_WARPS, KEY_WARPS, KEYS (a
// multiple of 16), BLOCKS (a multiprocessor, at least), ONE_STEP (all keys are in one step), TAIL (the last step is not
// full), CAUSAL (row i sees keys 0 to i), MASK (0 none, 1 of the element type, 2 float32), MASK_ROWS (1, or 2 if it
// differs between rows).
#include "latency.cuh"
#include "activations.cuh"
#include "warp_matrix.cuh"

struct Sizes {
  int rows, keys;
  int q[3], k[3], v[3], y[3];  // steps in elements from batch to batch, head to head, row to row
  int mask[4];                 // the same, and from key to key
  float scale;                 // with log2(e) in it where there is no mask
};

constexpr int ROWS = 16 * ROW_WARPS, STEP = KEYS * KEY_WARPS, THREADS = 32 * ROW_WARPS * KEY_WARPS;
constexpr int STAGES = ONE_STEP ? 1 : 2;
constexpr int DEPTH = (HEAD + 15) / 16 * 16, WIDTH = (VALUE + 15) / 16 * 16;  // what lies beyond HEAD, VALUE is zero
constexpr int QK_ROW = DEPTH * 2 + 16, V_ROW = WIDTH * 2 + 16;                // bytes
constexpr int K_AT = ROWS * QK_ROW, K_END = K_AT + STAGES * STEP * QK_ROW;
constexpr int PART_ROW = WIDTH + 8;  // floats: pairs that a half warp stores lie in different banks
constexpr int JOINS_AT = KEY_WARPS * ROWS * PART_ROW * 4, PARTS_END = JOINS_AT + KEY_WARPS * ROWS * 8;
constexpr int V_AT = K_END > PARTS_END ? K_END : PARTS_END;
constexpr float UNIT = MASK ? LOG2_E : 1.f;  // of scores in binary orders: a mask may be too low to be multiplied

#if MASK == 2
typedef float Added;
DEVICE float widen(Added v) { return v; }
#else
typedef u16 Added;
DEVICE float widen(Added v) { return unpack(v).x; }
#endif

DEVICE float never() { return __uint_as_float(0xff800000u); }  // the score of what is hidden

// Begins to copy LINES rows of UNITS times 16 bytes, zeros where they are not: the first `left` rows exist, and of each
// the first PRESENT units. A thread walks down its column where the columns come out even: one address, not one a copy.
template <int LINES, int UNITS, int PRESENT>
DEVICE void copy_rows(u32 target, const u16* source, int row_step, int left) {
  if constexpr (THREADS % UNITS == 0) {
    int line = threadIdx.x / UNITS;
    const int unit = threadIdx.x % UNITS;
    const u16* from = source + (u64)line * row_step + unit * 8;
    target += line * (UNITS * 16 + 16) + unit * 16;
    UNROLL for (int i = 0; i < LINES; i += THREADS / UNITS) {
      if (LINES % (THREADS / UNITS) != 0 && line >= LINES) break;
      copy16(target + i * (UNITS * 16 + 16), from, line < left && unit < PRESENT);
      line += THREADS / UNITS;
      from += THREADS / UNITS * (u64)row_step;
    }
  } else {
    for (int item = threadIdx.x; item < LINES * UNITS; item += THREADS) {
      const int line = item / UNITS, unit = item % UNITS;
      copy16(target + line * (UNITS * 16 + 16) + unit * 16, source + (u64)line * row_step + unit * 8,
             line < left && unit < PRESENT);
    }
  }
}

// s = q k^T for this warp's 16 rows and KEYS keys, the first of which lies at `k`.
DEVICE void score(float (&s)[KEYS / 8][4], const u32 (&q)[DEPTH / 16][4], u32 k, int lane) {
  UNROLL for (int j = 0; j < KEYS / 8; j++) UNROLL for (int i = 0; i < 4; i++) s[j][i] = 0.f;
  const u32 row = k + ((lane >> 4) * 8 + (lane & 7)) * QK_ROW + (lane >> 3 & 1) * 16;
  UNROLL for (int d = 0; d < DEPTH / 16; d++) UNROLL for (int j = 0; j < KEYS / 16; j++) {
    u32 b[4];
    load_matrices(b, row + j * 16 * QK_ROW + d * 32);
    multiply_add(s[2 * j], q[d], b[0], b[1]);
    multiply_add(s[2 * j + 1], q[d], b[2], b[3]);
  }
}

// o += p v for this warp's 16 rows and KEYS keys, the first of which lies at `v`.
DEVICE void add_values(float (&o)[WIDTH / 8][4], const float (&p)[KEYS / 8][4], u32 v, int lane) {
  const u32 row = v + (lane & 15) * V_ROW + (lane >> 4) * 16;
  UNROLL for (int k = 0; k < KEYS / 16; k++) {
    const float (&low)[4] = p[2 * k], (&high)[4] = p[2 * k + 1];
    const u32 a[4] = {pack(low[0], low[1]), pack(low[2], low[3]), pack(high[0], high[1]), pack(high[2], high[3])};
    UNROLL for (int n = 0; n < WIDTH / 16; n++) {
      u32 b[4];
      load_transposed(b, row + k * 16 * V_ROW + n * 32);
      multiply_add(o[2 * n], a, b[0], b[1]);
      multiply_add(o[2 * n + 1], a, b[2], b[3]);
    }
  }
}

// What is added to the scores of rows `row` and `row + 8`, keys from `key` in pairs 8 apart. Past the ends: of the last.
DEVICE void fetch_mask(float (&added)[MASK_ROWS][KEYS / 4], const Added* mask, const Sizes& sizes, int row, int key) {
  UNROLL for (int r = 0; r < MASK_ROWS; r++) {
    const Added* line = mask + (u64)min(row + 8 * r, sizes.rows - 1) * sizes.mask[2];
    UNROLL for (int i = 0; i < KEYS / 4; i++)
      added[r][i] = widen(line[(u64)min(key + i / 2 * 8 + i % 2, sizes.keys - 1) * sizes.mask[3]]);
  }
}

// Scores to exponentials against the row's highest so far; earlier ones, in `o` and `total`, are corrected.
DEVICE void exponentiate(float (&s)[KEYS / 8][4], float (&o)[WIDTH / 8][4], float (&most)[2], float (&total)[2]) {
  UNROLL for (int r = 0; r < 2; r++) {
    float top = most[r];
    UNROLL for (int j = 0; j < KEYS / 8; j++) top = fmaxf(top, fmaxf(s[j][2 * r], s[j][2 * r + 1]));
    top = fmaxf(top, __shfl_xor_sync(~0u, top, 1));
    top = fmaxf(top, __shfl_xor_sync(~0u, top, 2));
    const float base = top == never() ? 0.f : top;  // all hidden so far: exponentials are 0, not NaN
    if (!ONE_STEP) {
      const float shrink = exp2_fast((most[r] - base) * UNIT);
      total[r] *= shrink;
      UNROLL for (int n = 0; n < WIDTH / 8; n++) o[n][2 * r] *= shrink, o[n][2 * r + 1] *= shrink;
    }
    most[r] = top;
    UNROLL for (int j = 0; j < KEYS / 8; j++) UNROLL for (int e = 2 * r; e < 2 * r + 2; e++) {
      s[j][e] = exp2_fast((s[j][e] - base) * UNIT);
      total[r] += s[j][e];
    }
  }
}

// Rows `line` and `line + 8` of this warp's parts, with the maximum and the sum that they are of.
DEVICE void leave_part(u8* memory, int line, int t, const float (&o)[WIDTH / 8][4], const float (&most)[2],
                       const float (&total)[2]) {
  UNROLL for (int r = 0; r < 2; r++) {
    float sum = total[r] + __shfl_xor_sync(~0u, total[r], 1);
    sum += __shfl_xor_sync(~0u, sum, 2);
    if (t == 0) ((float2*)(memory + JOINS_AT))[line + 8 * r] = make_float2(most[r], sum);
    float* part = (float*)memory + (line + 8 * r) * PART_ROW + 2 * t;
    UNROLL for (int n = 0; n < WIDTH / 8; n++) *(float2*)(part + 8 * n) = make_float2(o[n][2 * r], o[n][2 * r + 1]);
  }
}

// The block's rows from the parts of its warps, of which the first `left` exist. NaN where all keys of a row are hidden, as
// in ONNX Runtime.
DEVICE void join_parts(const u8* memory, u16* y, int row_step, int left) {
  const float2* joins = (const float2*)(memory + JOINS_AT);
  for (int item = threadIdx.x; item < ROWS * (VALUE / 8); item += THREADS) {
    const int line = item / (VALUE / 8), unit = item % (VALUE / 8);
    if (line >= left) break;
    float top = never(), sum = 0.f, made[8];
    UNROLL for (int w = 0; w < KEY_WARPS; w++) top = fmaxf(top, joins[w * ROWS + line].x);
    UNROLL for (int e = 0; e < 8; e++) made[e] = 0.f;
    UNROLL for (int w = 0; w < KEY_WARPS; w++) {
      const float2 join = joins[w * ROWS + line];
      const float weight = exp2_fast((join.x - top) * UNIT);
      const float4* part = (const float4*)((const float*)memory + (w * ROWS + line) * PART_ROW + unit * 8);
      const float4 low = part[0], high = part[1];
      const float given[8] = {low.x, low.y, low.z, low.w, high.x, high.y, high.z, high.w};
      sum = fmaf(weight, join.y, sum);
      UNROLL for (int e = 0; e < 8; e++) made[e] = fmaf(weight, given[e], made[e]);
    }
    const float share = reciprocal(sum);
    store16(y + (u64)line * row_step + unit * 8,
            make_uint4(pack(made[0] * share, made[1] * share), pack(made[2] * share, made[3] * share),
                       pack(made[4] * share, made[5] * share), pack(made[6] * share, made[7] * share)));
  }
}

// Grid: rows / ROWS, heads, batches.
extern "C" __global__ void __launch_bounds__(THREADS, BLOCKS)
    attention(const u16* q, const u16* k, const u16* v, const Added* mask, u16* y, const __grid_constant__ Sizes sizes) {
  extern __shared__ __align__(128) u8 memory[];
  const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5, row_warp = warp % ROW_WARPS, key_warp = warp / ROW_WARPS;
  const int g = lane >> 2, t = lane & 3, head = blockIdx.y, batch = blockIdx.z;
  const int first_row = blockIdx.x * ROWS, row = first_row + row_warp * 16 + g;
  const u32 shared = shared_address(memory);
  q += (u64)batch * sizes.q[0] + (u64)head * sizes.q[1] + (u64)first_row * sizes.q[2];
  k += (u64)batch * sizes.k[0] + (u64)head * sizes.k[1];
  v += (u64)batch * sizes.v[0] + (u64)head * sizes.v[1];
  y += (u64)batch * sizes.y[0] + (u64)head * sizes.y[1] + (u64)first_row * sizes.y[2];
  if (MASK) mask += (u64)batch * sizes.mask[0] + (u64)head * sizes.mask[1];
  int steps = ONE_STEP ? 1 : (sizes.keys + STEP - 1) / STEP;
  if (CAUSAL) steps = min(steps, (first_row + ROWS - 1) / STEP + 1);
  auto copy_k = [&](int step) {
    copy_rows<STEP, DEPTH / 8, HEAD / 8>(shared + K_AT + step % STAGES * STEP * QK_ROW,
                                         k + (u64)step * STEP * sizes.k[2], sizes.k[2], sizes.keys - step * STEP);
  };
  auto copy_v = [&](int step) {
    copy_rows<STEP, WIDTH / 8, VALUE / 8>(shared + V_AT + step % STAGES * STEP * V_ROW,
                                          v + (u64)step * STEP * sizes.v[2], sizes.v[2], sizes.keys - step * STEP);
  };

  wait_for_previous();
  copy_rows<ROWS, DEPTH / 8, HEAD / 8>(shared, q, sizes.q[2], sizes.rows - first_row);
  copy_k(0);
  copies_commit();
  copy_v(0);
  copies_commit();
  let_next_start();

  u32 fragments[DEPTH / 16][4];
  float o[WIDTH / 8][4], most[2] = {never(), never()}, total[2] = {0.f, 0.f};
  UNROLL for (int n = 0; n < WIDTH / 8; n++) UNROLL for (int i = 0; i < 4; i++) o[n][i] = 0.f;
  for (int step = 0; step < steps; step++) {
    const int place = step % STAGES * STEP + key_warp * KEYS, key = step * STEP + key_warp * KEYS + 2 * t;
    float s[KEYS / 8][4], added[MASK_ROWS][KEYS / 4];
    if (MASK) fetch_mask(added, mask, sizes, row, key);
    copies_wait<1>();  // k is here, the same step's v perhaps not
    __syncthreads();   // and everyone is done with the step before
    if (!ONE_STEP) {   // what comes next is on its way while this is computed; groups are counted, so empty ones too
      if (step + 1 < steps) copy_k(step + 1);
      copies_commit();
      if (step + 1 < steps) copy_v(step + 1);
      copies_commit();
    }
    if (step == 0)
      UNROLL for (int d = 0; d < DEPTH / 16; d++)
        load_matrices(fragments[d], shared + (row_warp * 16 + (lane & 15)) * QK_ROW + (lane >> 4) * 16 + d * 32);
    score(s, fragments, shared + K_AT + place * QK_ROW, lane);
    UNROLL for (int j = 0; j < KEYS / 8; j++) UNROLL for (int i = 0; i < 4; i++) {
      const int here = key + 8 * j + (i & 1);
      s[j][i] = MASK ? fmaf(s[j][i], sizes.scale, added[i / 2 % MASK_ROWS][2 * j + (i & 1)]) : s[j][i] * sizes.scale;
      if ((TAIL && here >= sizes.keys) || (CAUSAL && here > row + i / 2 * 8)) s[j][i] = never();
    }
    exponentiate(s, o, most, total);
    copies_wait<ONE_STEP ? 0 : 2>();
    __syncthreads();
    add_values(o, s, shared + V_AT + place * V_ROW, lane);
  }

  leave_part(memory, key_warp * ROWS + row_warp * 16 + g, t, o, most, total);
  __syncthreads();
  join_parts(memory, y, sizes.y[2], sizes.rows - first_row);
}
