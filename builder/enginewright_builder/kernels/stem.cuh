// What the kernels of a network's first convolution share (stem_conv.cu explains, stem_walk.cu walks): a window's form in
// shared memory, where weights and input rows begin there, and numbers.
#pragma once

struct Sizes {
  int in_height, in_width, pad_h, pad_w;  // of the convolution
  int conv_height, conv_width;            // of its result
  int pool_pad_h, pool_pad_w;
  int outputs, height, width, columns;                // of y; columns of y that a block makes
  int output_tiles;                                   // of 64 channels
  int x_channel, x_row, x_column, y_row, y_column;    // steps in elements
  u64 x_image, y_image;
};

constexpr int UNIT_CHANNELS = 8 / STRIDE_W;                                // of a padded pixel
constexpr int UNITS = ((KERNEL_W + STRIDE_W - 1) / STRIDE_W + 1) / 2 * 2;  // of a window: whole steps of K = 16
constexpr int STEPS = KERNEL_H * UNITS / 2;
static_assert(STRIDE_W * UNIT_CHANNELS == 8 && CHANNELS <= UNIT_CHANNELS, "a unit is 16 bytes");

// WHOLE: x and w are float32, each the sum of two elements, the second what rounding to the first loses. Then
//     x w = high(x) high(w) + high(x) low(w) + low(x) high(w)
// but for low(x) low(w), which float32 itself would hardly keep. Of bfloat16 16 bits are kept, of float16 22, or what
// lies above its smallest number. Low parts lie in shared memory as the high ones do, behind them.
constexpr int PARTS = WHOLE ? 2 : 1, PRODUCTS = WHOLE ? 3 : 1;
constexpr int WEIGHT_PART = STEPS * 2048, WEIGHT_BYTES = PARTS * WEIGHT_PART;

// Shared memory begins with a barrier and the weights. A column of a result is 64 channels, and 16 bytes more so that
// neighbouring columns lie in other banks.
constexpr int WEIGHTS_AT = 1024, INPUT_AT = WEIGHTS_AT + WEIGHT_BYTES;
constexpr int RESULT_COLUMN = 64 * 2 + 16;

#if INPUT_IS_FLOAT
typedef float Input;
DEVICE u32 to_pair(Input low, Input high) { return pack(low, high); }
#else
typedef u16 Input;
DEVICE u32 to_pair(Input low, Input high) { return low | (u32)high << 16; }
#endif

// Puts a pixel into its place in a unit, converted, the channels that fill it zero; its low parts `part` bytes further.
DEVICE void keep_pixel(u8* target, const Input (&v)[CHANNELS], int part) {
  Input all[UNIT_CHANNELS];
  UNROLL for (int c = 0; c < UNIT_CHANNELS; c++) all[c] = c < CHANNELS ? v[c < CHANNELS ? c : 0] : (Input)0;
  UNROLL for (int c = 0; c < UNIT_CHANNELS; c += 4) {
    const uint2 high = make_uint2(to_pair(all[c], all[c + 1]), to_pair(all[c + 2], all[c + 3]));
    *(uint2*)(target + c * 2) = high;
#if WHOLE
    const float2 first = unpack(high.x), second = unpack(high.y);
    *(uint2*)(target + part + c * 2) = make_uint2(to_pair(all[c] - first.x, all[c + 1] - first.y),
                                                  to_pair(all[c + 2] - second.x, all[c + 3] - second.y));
#endif
  }
}

// Two sums of neighbouring channels, activated and packed; where `low`, what packing loses of them, packed.
DEVICE u32 finished(float a, float b, bool low) {
  const u32 high = FINISH(a, b);
#if LOW_FROM
  const float2 kept = unpack(high);
  if (low) return pack(ACTIVATE(a) - kept.x, ACTIVATE(b) - kept.y);
#endif
  return high;
}

// What one of the PRODUCTS adds to the descriptors of weights and of input rows.
DEVICE constexpr u64 weight_part(int product) { return product == 1 ? WEIGHT_PART / 16 : 0; }
DEVICE constexpr u64 input_part(int product, int part) { return product == 2 ? part / 16 : 0; }

DEVICE uint4 larger(uint4 a, uint4 b) {
  return make_uint4(larger_pair(a.x, b.x), larger_pair(a.y, b.y), larger_pair(a.z, b.z), larger_pair(a.w, b.w));
}
