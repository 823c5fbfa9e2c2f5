// From sums to results: scale, bias, residual, activation in float32, rounded into a staging tile in shared memory that
// TMA stores (and into which it has brought the residual before). Macros: RESULTS (columns that a block finishes),
// OUTPUT, RESIDUAL, ACTIVATION, GATED; PATCH_WIDTH, PATCH_HEIGHT, PATCH_IMAGES (0 where nothing is pooled). With a tail
// (tactics/epilogue_text.py) TAIL(y, r), what stands behind the activation, and APART, 1 where the residual r is its alone.
#pragma once
#include "hopper.cuh"
#include "activations.cuh"
#ifndef TAIL
#define TAIL(y, r) (y)
#define APART 0
#endif

struct Epilogue {
    float scale, alpha, beta;  // alpha, beta: the activation's parameters
};

INLINE float finish(float sum, const Epilogue& e, float residual = 0.f) {
    const float y = ACTIVATION(sum, e.alpha, e.beta);
    return TAIL(GATED ? sum * y : y, residual);
}

constexpr int ITEM = sizeof(Item<OUTPUT>);
// A staged tile lies in panels as wide as the widest swizzle (128, 64 or 32 bytes) that divides a row of it. TMA is slow at
// rows of 32 bytes, so there whole rows lie one behind the other: an odd number of 32 bytes makes two rows meet in a bank.
// Where a residual is read from there too, that costs more than the slow copies.
constexpr bool SWIZZLED = RESIDUAL || RESULTS * ITEM % 64 == 0;
constexpr int WIDTH = RESULTS * ITEM % 128 == 0 ? 128 : RESULTS * ITEM % 64 == 0 ? 64 : SWIZZLED ? 32 : RESULTS * ITEM;
constexpr int PANEL = WIDTH / ITEM, PANELS = RESULTS / PANEL;
// With a max pool (2x2, stride 2, no padding) the 64 rows of a warpgroup are a patch: x fastest, then y, then the image.
constexpr bool POOLED = PATCH_WIDTH > 0;
constexpr int SHRUNK = POOLED ? 2 : 1, KEPT = SHRUNK * SHRUNK;  // of KEPT rows one is stored

// Two neighbours of the staging tile. Panels are swizzled as TMA has them: 16 bytes i of row r lie at place i ^ r of eight
// (panels of 128 bytes), i ^ r / 2 of four, i ^ r / 4 of two.
INLINE float2 staged(Float, const unsigned char* at) { return *(const float2*)at; }
template <class T> INLINE float2 staged(T, const unsigned char* at) { return unpack(T{}, *(const uint32_t*)at); }
INLINE void stage(Float, unsigned char* at, float x, float y) { *(float2*)at = make_float2(x, y); }
template <class T> INLINE void stage(T, unsigned char* at, float x, float y) { *(uint32_t*)at = pack(T{}, x, y); }
INLINE int place(int eight, int row, int pair) {
    const int at = (eight * 8 + pair * 2) * ITEM;
    return SWIZZLED ? at ^ (WIDTH == 128 ? row : WIDTH == 64 ? row >> 1 : row >> 2) << 4 : at;
}

// One panel of a thread's sums: of each group of eight columns two neighbours (columns 2 * pair, 2 * pair + 1) in rows `row`
// and `row` + 8.
template <bool SHORTCUT, int SUMS, class Finish>
INLINE void finish_panel(const float (&sums)[SUMS], int q, unsigned char* panel, const float* bias, int row, int pair,
                         float scale, Finish finished) {
    constexpr int EIGHTS = PANEL / 8, PART = EIGHTS < 8 ? EIGHTS : 8;  // a part's operands are in registers at a time
#pragma unroll
    for (int first = 0; first < EIGHTS; first += PART) {
        float2 offsets[PART], shortcut[2 * PART];
#pragma unroll
        for (int j = 0; j < PART && first + j < EIGHTS; j++) offsets[j] = two_constants(bias + (first + j) * 8 + 2 * pair);
        if (SHORTCUT)
#pragma unroll
            for (int j = 0; j < PART && first + j < EIGHTS; j++)
#pragma unroll
                for (int h = 0; h < 2; h++)
                    shortcut[2 * j + h] = staged(OUTPUT{}, panel + place(first + j, row, pair) + h * 8 * WIDTH);
#pragma unroll
        for (int j = 0; j < PART && first + j < EIGHTS; j++)
#pragma unroll
            for (int h = 0; h < 2; h++) {
                const float* sum = &sums[(q * EIGHTS + first + j) * 4 + 2 * h];
                float x = fmaf(sum[0], scale, offsets[j].x), y = fmaf(sum[1], scale, offsets[j].y);
                const float2 beside = SHORTCUT ? shortcut[2 * j + h] : make_float2(0.f, 0.f);
                if (SHORTCUT && !APART) x += beside.x, y += beside.y;
                stage(OUTPUT{}, panel + place(first + j, row, pair) + h * 8 * WIDTH, finished(x, beside.x),
                      finished(y, beside.y));
            }
    }
}
template <class Told>  // `staged_panel` is told of each panel that is there
INLINE void finish_rows(float (&sums)[RESULTS / 2], unsigned char* rows, int panel_bytes, const float* bias, int row,
                        int pair, const Epilogue& e, Told staged_panel) {
#pragma unroll
    for (int q = 0; q < PANELS; q++) {
        finish_panel<RESIDUAL>(sums, q, rows + q * panel_bytes, bias + q * PANEL, row, pair, e.scale,
                               [&](float sum, float residual) { return finish(sum, e, residual); });
        staged_panel(q);
    }
}

// The same with the pool: of the patch's 64 rows 16 are left, in the order of the patch. A window's rows lie in lanes that
// differ in one bit of `row`, or in both halves of a thread's own; each exchange leaves a lane half of the numbers.
INLINE uint32_t larger(Float, uint32_t a, uint32_t) { return a; }  // float32 results are never pooled
INLINE uint32_t packed(Float, float x, float) { return __float_as_uint(x); }
template <class T> INLINE uint32_t packed(T, float x, float y) { return pack(T{}, x, y); }
INLINE uint32_t exchanged(uint32_t first, uint32_t second, bool later, int lanes) {  // the larger of first, or of second
    return larger(OUTPUT{}, later ? second : first, __shfl_xor_sync(~0u, later ? first : second, lanes));
}
template <class Told>
INLINE void finish_pooled(float (&sums)[RESULTS / 2], unsigned char* patch, int panel_bytes, const float* bias, int warp,
                          int row, int pair, const Epilogue& e, Told staged_panel) {
    constexpr int EIGHTS = PANEL / 8;
    const bool right = row & 1, below = row & PATCH_WIDTH;
    const int place_in_four = PATCH_WIDTH == 2 ? (row & 2) + (row >> 2) : row >> 1, at = warp * 4 + place_in_four;
#pragma unroll
    for (int q = 0; q < PANELS; q++) {
        unsigned char* panel = patch + q * panel_bytes + at * WIDTH;
        uint32_t rows[EIGHTS];
#pragma unroll
        for (int j = 0; j < EIGHTS; j++) {
            const float2 offset = two_constants(bias + q * PANEL + j * 8 + 2 * pair);
            uint32_t half[2];
#pragma unroll
            for (int h = 0; h < 2; h++) {
                const float* sum = &sums[(q * EIGHTS + j) * 4 + 2 * h];
                half[h] = packed(OUTPUT{}, finish(fmaf(sum[0], e.scale, offset.x), e), finish(fmaf(sum[1], e.scale, offset.y), e));
            }
            rows[j] = PATCH_WIDTH == 8 ? larger(OUTPUT{}, half[0], half[1]) : exchanged(half[0], half[1], below, PATCH_WIDTH * 4);
        }
#pragma unroll
        for (int j = 0; j < EIGHTS; j += 2)
            *(uint32_t*)(panel + place(j + right, at & 7, pair)) = exchanged(rows[j], rows[j + 1], right, 4);
        staged_panel(q);
    }
}
