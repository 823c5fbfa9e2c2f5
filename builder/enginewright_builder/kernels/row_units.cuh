// What products of few rows share: their sizes, and numbers sixteen bytes at a time.
//
// Set before this text: ELEMENT_IS_FLOAT, ELEMENT_IS_BFLOAT16, OUTPUT_IS_FLOAT.
#pragma once

struct Sizes {
  int k, outputs;          // k in elements, whole units of 16 bytes
  int a_row, y_row;        // steps in elements
  float alpha;
};

constexpr int UNIT = ELEMENT_IS_FLOAT ? 4 : 8;  // elements in 16 bytes

#if ELEMENT_IS_FLOAT
typedef float Element;
DEVICE void widen(uint4 v, float (&f)[UNIT]) {
  f[0] = __uint_as_float(v.x), f[1] = __uint_as_float(v.y), f[2] = __uint_as_float(v.z), f[3] = __uint_as_float(v.w);
}
#else
typedef u16 Element;
DEVICE void widen(uint4 v, float (&f)[UNIT]) {
  const float2 p = unpack(v.x), q = unpack(v.y), r = unpack(v.z), s = unpack(v.w);
  f[0] = p.x, f[1] = p.y, f[2] = q.x, f[3] = q.y, f[4] = r.x, f[5] = r.y, f[6] = s.x, f[7] = s.y;
}
#endif

#if OUTPUT_IS_FLOAT
typedef float Output;
DEVICE Output narrow(float v) { return v; }
#else
typedef u16 Output;
DEVICE Output narrow(float v) { return (u16)pack(v, 0.f); }
#endif
