// Activations of an epilogue, in float32 before the result is rounded. -D ACTIVATION=name picks one; a and b are the
// operator's parameters. Errors are below 7e-7 absolute, far under the rounding of the half types. The special functions
// are the hardware's own: four a cycle and scheduler, so that an activation costs by how many of them it has.
#pragma once
__device__ __forceinline__ float exp2_fast(float x) {
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}
__device__ __forceinline__ float reciprocal(float x) {
    float y;
    asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}
constexpr float LOG2_E = 1.44269504f;
__device__ __forceinline__ float none(float x, float, float) { return x; }
__device__ __forceinline__ float relu(float x, float, float) { return x < 0.f ? 0.f : x; }  // keeps NaN
__device__ __forceinline__ float clip(float x, float a, float b) { return x < a ? a : x > b ? b : x; }
__device__ __forceinline__ float leaky_relu(float x, float a, float) { return x < 0.f ? a * x : x; }
__device__ __forceinline__ float elu(float x, float a, float) { return x < 0.f ? a * (exp2_fast(x * LOG2_E) - 1.f) : x; }
__device__ __forceinline__ float sigmoid(float x, float, float) { return reciprocal(1.f + exp2_fast(-LOG2_E * x)); }
__device__ __forceinline__ float hard_sigmoid(float x, float a, float b) { return clip(fmaf(a, x, b), 0.f, 1.f); }
__device__ __forceinline__ float hard_swish(float x, float, float) { return x * hard_sigmoid(x, 1.f / 6.f, 0.5f); }
__device__ __forceinline__ float tanh(float x, float, float) {
    float square = x * x;  // near zero the quotient loses its digits: three terms of the series there
    float small = x * fmaf(square, fmaf(square, 2.f / 15.f, -1.f / 3.f), 1.f);
    return square < 0.01f ? small : fmaf(-2.f, reciprocal(1.f + exp2_fast(2.f * LOG2_E * x)), 1.f);
}
// x Phi(x) = max(x, 0) - |x| (1 - Phi(|x|)). The logarithm of that tail is nearly a parabola: a polynomial of degree 5,
// fitted to the least error of the product for |x| up to 6.2 (beyond, it falls on), so one special function is enough.
__device__ __forceinline__ float gelu(float x, float, float) {
    const float a = fabsf(x);
    const float order = fmaf(a, fmaf(a, fmaf(a, fmaf(a, fmaf(a, -4.73294e-4f, 7.0844614e-3f), -5.1827169e-2f), -0.45999265f), -1.1507878f), -1.0000376f);
    return fmaf(-a, exp2_fast(order), fmaxf(x, 0.f));  // a NaN is in the product
}
__device__ __forceinline__ float gelu_tanh(float x, float, float) {
    float z = 0.79788456f * fmaf(0.044715f * x * x, x, x);
    return x * reciprocal(1.f + exp2_fast(-2.f * LOG2_E * z));  // (1 + tanh z) / 2 is a logistic function of 2 z
}
#include "tail.generated"
