// softmax(scale * scores) v of a warpgroup's 64 rows on Hopper, all scores of a row at once: no maximum is ever corrected.
//
// Scores stay where the products leave them: in registers, which are how the second product takes its left operand. That
// one starts with the first 16 keys while the others' exponentials are computed.
//
// Set before this text: KEYS (a multiple of 16, at most 256), TAIL (fewer keys exist), ELEMENT; multiply_values.
#pragma once
#include "hopper.cuh"
#include "activations.cuh"

constexpr int GROUP_BYTES = 64 * 128;  // 64 rows of 64 numbers

// What is added to the scaled scores of rows `row` and `row` + 8: less their maximum. Keys that do not exist are hidden.
INLINE void lower_scores(float (&scores)[KEYS / 2], float (&lowered)[2], int keys, float scale, int pair) {
#pragma unroll
    for (int r = 0; r < 2; r++) {
        float top = __uint_as_float(0xff800000u);
#pragma unroll
        for (int j = 0; j < KEYS / 8; j++)
#pragma unroll
            for (int e = 2 * r; e < 2 * r + 2; e++) {
                if (TAIL && j * 8 + pair * 2 + e % 2 >= keys) scores[4 * j + e] = __uint_as_float(0xff800000u);
                top = fmaxf(top, scores[4 * j + e]);
            }
        top = fmaxf(top, __shfl_xor_sync(~0u, top, 1));
        top = fmaxf(top, __shfl_xor_sync(~0u, top, 2));
        lowered[r] = -top * scale;
    }
}

// The weighted values, which lie at `v_at` (KEYS rows of 128 bytes, swizzled), and what they are still to be multiplied by.
INLINE void weigh_values(const float (&scores)[KEYS / 2], const float (&lowered)[2], float scale, uint32_t v_at,
                         float (&sums)[32], float (&share)[2]) {
    float total[2] = {0.f, 0.f};
    uint32_t weights[KEYS / 16][4];
#pragma unroll
    for (int i = 0; i < KEYS / 16; i++) {
#pragma unroll
        for (int e = 0; e < 8; e += 2) {  // in pairs: keys, keys of `row` + 8, eight keys on, the same of `row` + 8
            const int r = e / 2 % 2;
            const float low = exp2_fast(fmaf(scores[8 * i + e], scale, lowered[r]));
            const float high = exp2_fast(fmaf(scores[8 * i + e + 1], scale, lowered[r]));
            total[r] += low + high;
            weights[i][e / 2] = pack(ELEMENT{}, low, high);
        }
        products_begin();
        multiply_values(sums, weights[i], operand<128>(v_at + i * 2048, 1024, 8192), i != 0);
        products_commit();
    }
#pragma unroll
    for (int r = 0; r < 2; r++) {
        total[r] += __shfl_xor_sync(~0u, total[r], 1);
        total[r] += __shfl_xor_sync(~0u, total[r], 2);
        share[r] = reciprocal(total[r]);
    }
    products_wait<0>();
    settle(sums);
}

// Rows `row` and `row` + 8 of 64 numbers from a warpgroup's sums, as the copy engine has them: 16 bytes j of a row lie at
// place j ^ row. `rows` is where the first one begins.
template <class Finish>
INLINE void lay_rows(const float* sums, unsigned char* rows, int row, int pair, Finish finish) {
#pragma unroll
    for (int j = 0; j < 8; j++)
#pragma unroll
        for (int r = 0; r < 2; r++)
            *(uint32_t*)(rows + r * 8 * 128 + ((j ^ row) * 16 + pair * 4)) =
                pack(ELEMENT{}, finish(sums[4 * j + 2 * r], r, j * 8 + pair * 2), finish(sums[4 * j + 2 * r + 1], r, j * 8 + pair * 2 + 1));
}
