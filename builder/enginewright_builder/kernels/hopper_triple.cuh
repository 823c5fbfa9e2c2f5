// What hopper_triple.cu, hopper_small_triple.cu and hopper_wide_triple.cu share: how sums become results, and constants that come early.
//
// Macros: those of hopper_epilogue.cuh, BEFORE_ACTIVATION, BEFORE_GATED, NEXT_ACTIVATION, NEXT_GATED.
#pragma once
#include "hopper.cuh"
#include "hopper_epilogue.cuh"

// Constants that all threads of a warpgroup bring into the L1 cache.
template <int COUNT>
INLINE float started(const float* constants, int thread) {
    float sum = 0.f;
#pragma unroll
    for (int i = 0; i < COUNT; i += 128) sum += start_constant(constants + min(i + thread, COUNT - 1));
    return sum;
}

INLINE float finish_before(float sum, const Epilogue& e) {
    float b = BEFORE_ACTIVATION(sum, e.alpha, e.beta);
    return BEFORE_GATED ? sum * b : b;
}
INLINE float finish_next(float sum, const Epilogue& e) {
    float z = NEXT_ACTIVATION(sum, e.alpha, e.beta);
    return NEXT_GATED ? sum * z : z;
}
// A thread's sums of EIGHTS times eight channels from the `first` eight on, `told` of each two neighbours: the eight that they
// are of, half of the rows, bias. More of them at a time is faster and takes more registers.
template <int EIGHTS, int SUMS, class Told>
INLINE void finish_channels(const float (&sums)[SUMS], int first, const float* bias, int pair, float scale, Told told) {
    float2 offsets[EIGHTS];
#pragma unroll
    for (int j = 0; j < EIGHTS; j++) offsets[j] = two_constants(bias + j * 8 + 2 * pair);
#pragma unroll
    for (int j = 0; j < EIGHTS; j++)
#pragma unroll
        for (int h = 0; h < 2; h++) {
            const float* sum = &sums[(first + j) * 4 + 2 * h];
            told(j, h, fmaf(sum[0], scale, offsets[j].x), fmaf(sum[1], scale, offsets[j].y));
        }
}
// A chunk's results in the staging tile that begins at `rows` for this thread, with what is there already; two each are
// `told` too.
template <bool SHORTCUT, int EIGHTS, class Finish, class Told>
INLINE void finish_tile(const float (&sums)[32], unsigned char* rows, const float* bias, int row, int pair, float scale,
                        Finish finished, Told told) {
#pragma unroll
    for (int first = 0; first < 8; first += EIGHTS) {
        uint32_t shortcut[2 * EIGHTS];  // all of it before the first store, else each load would wait for one
#pragma unroll
        for (int i = 0; i < (SHORTCUT ? 2 * EIGHTS : 0); i++)
            shortcut[i] = *(const uint32_t*)(rows + place(first + i / 2, row, pair) + i % 2 * 8 * WIDTH);
        finish_channels<EIGHTS>(sums, first, bias + first * 8, pair, scale, [&](int j, int h, float low, float high) {
            if (SHORTCUT) {
                const float2 added = unpack(OUTPUT{}, shortcut[2 * j + h]);
                low += added.x, high += added.y;
            }
            const uint32_t two = pack(OUTPUT{}, finished(low), finished(high));
            *(uint32_t*)(rows + place(first + j, row, pair) + h * 8 * WIDTH) = two;
            told(first + j, h, two);
        });
    }
}
