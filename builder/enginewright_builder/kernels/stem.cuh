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
constexpr int STEPS = KERNEL_H * UNITS / 2, WEIGHT_BYTES = STEPS * 2048;
static_assert(STRIDE_W * UNIT_CHANNELS == 8 && CHANNELS <= UNIT_CHANNELS, "a unit is 16 bytes");

// Shared memory begins with a barrier and the weights. A column of a result is 64 channels, and 16 bytes more so that
// neighbouring columns lie in other banks.
constexpr int WEIGHTS_AT = 1024, INPUT_AT = WEIGHTS_AT + WEIGHT_BYTES;
constexpr int RESULT_COLUMN = 64 * 2 + 16;

#if INPUT_IS_FLOAT
typedef float Input;
DEVICE u16 to_element(Input v) { return (u16)pack(v, 0.f); }
DEVICE u32 to_pair(Input low, Input high) { return pack(low, high); }
#else
typedef u16 Input;
DEVICE u16 to_element(Input v) { return v; }
DEVICE u32 to_pair(Input low, Input high) { return low | (u32)high << 16; }
#endif

DEVICE uint4 larger(uint4 a, uint4 b) {
  return make_uint4(larger_pair(a.x, b.x), larger_pair(a.y, b.y), larger_pair(a.z, b.z), larger_pair(a.w, b.w));
}
