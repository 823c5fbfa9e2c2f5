// What the text of a tail stands on (tactics/epilogue_text.py), behind activations.cuh: the names that
// device/cuda_functions.py writes, and shorter forms of what CUDA's functions take long for, as good as those above.
#pragma once
template <class T> __device__ __forceinline__ T minimum(T a, T b) { return a < b || a != a ? a : b; }  // keep NaN
template <class T> __device__ __forceinline__ T maximum(T a, T b) { return a > b || a != a ? a : b; }
__device__ __forceinline__ float of_bits(unsigned bits) { return __int_as_float(bits); }
template <class T> struct Ends {
    static __device__ __forceinline__ float high() { return of_bits(0x7f800000u); }
};
__device__ __forceinline__ float log2_fast(float x) {
    float y;
    asm("lg2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}
__device__ __forceinline__ float softplus(float x, float, float) {
    return maximum(x, 0.f) + 0.693147181f * log2_fast(1.f + exp2_fast(-LOG2_E * fabsf(x)));
}
// tanh(log(1 + e^x)) = n / (n + 2), n = e^x (e^x + 2); from 20 on it is 1
__device__ __forceinline__ float mish(float x, float, float) {
    const float e = exp2_fast(LOG2_E * (x > 20.f ? 20.f : x)), n = e * (e + 2.f);
    return x * n * reciprocal(n + 2.f);
}
__device__ __forceinline__ float selu(float x, float a, float b) { return b * elu(x, a, 0.f); }
__device__ __forceinline__ float celu(float x, float a, float) {
    const float below = a * (exp2_fast(LOG2_E / a * x) - 1.f);
    return maximum(x, 0.f) + minimum(below, 0.f);
}
__device__ __forceinline__ float root(float x, float, float) {
    float y;
    asm("sqrt.approx.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}
