// What every generated kernel stands on: element types as they are stored, loads and stores of several elements at
// once, conversions, folds of reductions, and their joining across a warp or a block.
//
// Half types are computed with as float. No header is included: that would triple the time to compile. Where this is
// no device code (the tests run generated kernels on the host), plain C++ does what PTX does on the device.

#define EACH(v, n) _Pragma("unroll") for (int v = 0; v < (n); ++v)

typedef signed char int8;
typedef unsigned char uint8;
typedef short int16;
typedef unsigned short uint16;
typedef unsigned int uint32;
typedef long long int64;
typedef unsigned long long uint64;
struct float16 { unsigned short bits; };
struct bfloat16 { unsigned short bits; };
struct float8_e4m3fn { unsigned char bits; };
struct float8_e4m3fnuz { unsigned char bits; };
struct float8_e5m2 { unsigned char bits; };
struct float8_e5m2fnuz { unsigned char bits; };
struct boolean { unsigned char bits; };

template <int BYTES> struct Word;
template <> struct Word<1> { using type = unsigned char; };
template <> struct Word<2> { using type = unsigned short; };
template <> struct Word<4> { using type = unsigned int; };
template <> struct Word<8> { using type = uint2; };
template <> struct Word<16> { using type = uint4; };

// Programmatic dependent launch: what the previous kernels wrote may be touched only behind this.
__device__ inline void begin() {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.wait;" ::: "memory");
    asm volatile("griddepcontrol.launch_dependents;");
#endif
}

__device__ inline float of_bits(unsigned bits) {
    union { unsigned bits; float value; } both = {bits};
    return both.value;
}

__device__ inline unsigned to_bits(float value) {
    union { float value; unsigned bits; } both = {value};
    return both.bits;
}

// A double as a float that rounds to the narrower types as the double itself would (round to odd).
__device__ inline float to_odd(double value) {
    const float near = float(value);
    if (value != value || double(near) == value) return near;
    unsigned bits = to_bits(near);
    const double magnitude = value < 0 ? -value : value, found = value < 0 ? -double(near) : double(near);
    if (found > magnitude) bits -= 1;
    return of_bits(bits | 1);
}

// A small float with E exponent and M mantissa bits. FNUZ: one NaN (0x80), no infinities, no negative zero, one more bias.
// IEEE: infinities and NaNs at the highest exponent; otherwise all ones is NaN and there are no infinities.
template <int E, int M, bool FNUZ, bool IEEE> __device__ inline float widen(unsigned bits) {
    constexpr int bias = (1 << (E - 1)) - (FNUZ ? 0 : 1);
    const unsigned sign = (bits >> (E + M)) << 31, exponent = (bits >> M) & ((1u << E) - 1), mantissa = bits & ((1u << M) - 1);
    const float nan = of_bits(0x7fc00000u);
    if (FNUZ && sign && !exponent && !mantissa) return nan;
    if (IEEE && exponent == (1u << E) - 1) return mantissa ? nan : of_bits(sign | 0x7f800000u);
    if (!FNUZ && !IEEE && exponent == (1u << E) - 1 && mantissa == (1u << M) - 1) return nan;
    const float scale = of_bits(unsigned(127 + 1 - bias - M) << 23);  // of the smallest number
    if (!exponent) return of_bits(sign | to_bits(float(mantissa) * scale));
    return of_bits(sign | ((exponent + 127 - bias) << 23) | (mantissa << (23 - M)));
}

template <int E, int M, bool FNUZ, bool IEEE> __device__ inline unsigned narrow(float value) {
    constexpr int bias = (1 << (E - 1)) - (FNUZ ? 0 : 1);
    constexpr unsigned top = (1u << E) - 1, ones = (1u << M) - 1;
    constexpr unsigned nan = FNUZ ? 1u << (E + M) : IEEE ? (top << M) | (1u << (M - 1)) : (top << M) | ones;
    constexpr unsigned over = IEEE ? top << M : nan;
    constexpr unsigned largest = IEEE ? (top << M) - 1 : FNUZ ? (top << M) | ones : ((top << M) | ones) - 1;
    const unsigned all = to_bits(value), sign = (all >> 31) << (E + M);
    const unsigned magnitude = all & 0x7fffffffu;
    if (magnitude > 0x7f800000u) return FNUZ ? nan : sign | nan;
    const bool subnormal = magnitude < 0x800000u;
    const int exponent = (subnormal ? 1 : int(magnitude >> 23)) - 127 + bias;
    unsigned made;
    if (magnitude == 0x7f800000u) {
        made = over;
    } else if (exponent >= 1 && !subnormal) {
        const unsigned kept = ((unsigned)exponent << M) | ((magnitude & 0x7fffffu) >> (23 - M));
        const unsigned rest = magnitude & ((1u << (23 - M)) - 1), half = 1u << (22 - M);
        made = kept + (rest > half || (rest == half && (kept & 1)));
        if (made > largest) made = over;
    } else {
        const int shift = 23 - M + 1 - exponent;
        const unsigned whole = (magnitude & 0x7fffffu) | (subnormal ? 0 : 0x800000u);
        const unsigned kept = shift > 25 ? 0 : whole >> shift;
        const unsigned rest = shift > 25 ? 1 : whole & ((1u << shift) - 1), half = shift > 25 ? 2 : 1u << (shift - 1);
        made = kept + (rest > half || (rest == half && (kept & 1)));
    }
    if (FNUZ) return made == nan ? nan : made ? sign | made : 0;
    return sign | made;
}

__device__ inline float read(const float16* from) {
#ifdef __CUDA_ARCH__
    float value;
    asm("{.reg .b16 h; mov.b16 h, %1; cvt.f32.f16 %0, h;}" : "=f"(value) : "h"(from->bits));
    return value;
#else
    return widen<5, 10, false, true>(from->bits);
#endif
}
__device__ inline float read(const bfloat16* from) { return of_bits(unsigned(from->bits) << 16); }
__device__ inline float read(const float8_e4m3fn* from) { return widen<4, 3, false, false>(from->bits); }
__device__ inline float read(const float8_e4m3fnuz* from) { return widen<4, 3, true, false>(from->bits); }
__device__ inline float read(const float8_e5m2* from) { return widen<5, 2, false, true>(from->bits); }
__device__ inline float read(const float8_e5m2fnuz* from) { return widen<5, 2, true, false>(from->bits); }
__device__ inline bool read(const boolean* from) { return from->bits != 0; }
template <class T> __device__ inline T read(const T* from) { return *from; }

__device__ inline void write(float16* to, float value) {
#ifdef __CUDA_ARCH__
    asm("{.reg .b16 h; cvt.rn.f16.f32 h, %1; mov.b16 %0, h;}" : "=h"(to->bits) : "f"(value));
#else
    to->bits = (unsigned short)narrow<5, 10, false, true>(value);
#endif
}
__device__ inline void write(bfloat16* to, float value) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
    asm("{.reg .b16 h; cvt.rn.bf16.f32 h, %1; mov.b16 %0, h;}" : "=h"(to->bits) : "f"(value));
#else
    to->bits = (unsigned short)narrow<8, 7, false, true>(value);
#endif
}
__device__ inline void write(float8_e4m3fn* to, float value) { to->bits = narrow<4, 3, false, false>(value); }
__device__ inline void write(float8_e4m3fnuz* to, float value) { to->bits = narrow<4, 3, true, false>(value); }
__device__ inline void write(float8_e5m2* to, float value) { to->bits = narrow<5, 2, false, true>(value); }
__device__ inline void write(float8_e5m2fnuz* to, float value) { to->bits = narrow<5, 2, true, false>(value); }
__device__ inline void write(float16* to, double value) { write(to, to_odd(value)); }
__device__ inline void write(bfloat16* to, double value) { write(to, to_odd(value)); }
__device__ inline void write(float8_e4m3fn* to, double value) { write(to, to_odd(value)); }
__device__ inline void write(float8_e4m3fnuz* to, double value) { write(to, to_odd(value)); }
__device__ inline void write(float8_e5m2* to, double value) { write(to, to_odd(value)); }
__device__ inline void write(float8_e5m2fnuz* to, double value) { write(to, to_odd(value)); }
__device__ inline void write(boolean* to, bool value) { to->bits = value ? 1 : 0; }
template <class T> constexpr bool is_narrow = false;
template <> constexpr bool is_narrow<float16> = true;
template <> constexpr bool is_narrow<bfloat16> = true;
template <> constexpr bool is_narrow<float8_e4m3fn> = true;
template <> constexpr bool is_narrow<float8_e4m3fnuz> = true;
template <> constexpr bool is_narrow<float8_e5m2> = true;
template <> constexpr bool is_narrow<float8_e5m2fnuz> = true;
template <class T, class U> __device__ inline void write(T* to, U value) {
    if constexpr (is_narrow<T>) {
        write(to, double(value));
    } else {
        *to = T(value);
    }
}

// `value` rounded to a narrow type and widened again.
template <class T, class U> __device__ inline float rounded(U value) {
    T stored;
    write(&stored, value);
    return read(&stored);
}

// V elements that lie one behind another, W at a time; `from` and `to` are multiples of W elements.
template <int W, int V, class T, class R> __device__ inline void read_pack(R (&made)[V], const T* from) {
    using word = typename Word<W * sizeof(T)>::type;
    union Pack { word whole; T part[W]; };
    EACH(p, V / W) {
        Pack pack;
        pack.whole = reinterpret_cast<const word*>(from)[p];
        EACH(i, W) made[p * W + i] = read(&pack.part[i]);
    }
}

template <int W, int V, class T, class R> __device__ inline void write_pack(T* to, const R (&made)[V]) {
    using word = typename Word<W * sizeof(T)>::type;
    union Pack { word whole; T part[W]; };
    EACH(p, V / W) {
        Pack pack;
        EACH(i, W) write(&pack.part[i], made[p * W + i]);
        reinterpret_cast<word*>(to)[p] = pack.whole;
    }
}

template <class T> struct Limits;
template <> struct Limits<bool> { static constexpr int low = 0, high = 1; };
template <> struct Limits<int8> { static constexpr int low = -128, high = 127; };
template <> struct Limits<uint8> { static constexpr int low = 0, high = 255; };
template <> struct Limits<int16> { static constexpr int low = -32768, high = 32767; };
template <> struct Limits<uint16> { static constexpr int low = 0, high = 65535; };
template <> struct Limits<int> { static constexpr int low = -2147483647 - 1, high = 2147483647; };
template <> struct Limits<uint32> { static constexpr uint32 low = 0, high = 4294967295u; };
template <> struct Limits<int64> { static constexpr int64 low = -9223372036854775807ll - 1, high = 9223372036854775807ll; };
template <> struct Limits<uint64> { static constexpr uint64 low = 0, high = 18446744073709551615ull; };

// A floating-point number as an integer: towards zero, the nearest end where it does not fit, 0 for NaN.
template <class T, class F> __device__ inline T saturated(F value) {
    if (value != value) return T(0);
    if (value <= F(Limits<T>::low)) return Limits<T>::low;
    if (value >= F(Limits<T>::high)) return Limits<T>::high;
    return T(value);
}

template <class T> __device__ inline T minimum(T a, T b) { return (a < b || a != a) ? a : b; }
template <class T> __device__ inline T maximum(T a, T b) { return (a > b || a != a) ? a : b; }
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
template <> __device__ inline float minimum(float a, float b) {
    float made;
    asm("min.NaN.f32 %0, %1, %2;" : "=f"(made) : "f"(a), "f"(b));
    return made;
}
template <> __device__ inline float maximum(float a, float b) {
    float made;
    asm("max.NaN.f32 %0, %1, %2;" : "=f"(made) : "f"(a), "f"(b));
    return made;
}
#endif

// Integer division: 0 by 0 is 0; and rounded down, with the rest of the divisor's sign.
template <class T> __device__ inline T quotient(T a, T b) { return b == T(0) ? T(0) : b == T(-1) ? T(T(0) - a) : T(a / b); }
template <class T> __device__ inline T remainder_of(T a, T b) { return b == T(0) || b == T(-1) ? T(0) : T(a % b); }
template <class T> __device__ inline T quotient_down(T a, T b) {
    const T made = quotient(a, b), rest = remainder_of(a, b);
    return rest != T(0) && ((rest < T(0)) != (b < T(0))) ? T(made - 1) : made;
}
template <class T> __device__ inline T remainder_down(T a, T b) {
    const T rest = remainder_of(a, b);
    return rest != T(0) && ((rest < T(0)) != (b < T(0))) ? T(rest + b) : rest;
}
__device__ inline float remainder_down(float a, float b) {
    const float rest = fmodf(a, b);
    return rest != 0.0f ? ((rest < 0.0f) != (b < 0.0f) ? rest + b : rest) : copysignf(0.0f, b);
}
__device__ inline double remainder_down(double a, double b) {
    const double rest = fmod(a, b);
    return rest != 0.0 ? ((rest < 0.0) != (b < 0.0) ? rest + b : rest) : copysign(0.0, b);
}
template <class T> __device__ inline T power(T base, T exponent) {
    if (exponent < T(0)) return base == T(1) ? T(1) : base == T(-1) ? (exponent % 2 ? T(-1) : T(1)) : T(0);
    T made = 1;
    for (; exponent > T(0); exponent >>= 1, base *= base) {
        if (exponent & 1) made *= base;
    }
    return made;
}
template <class T> __device__ inline T shifted_left(T a, T b) { return b < T(0) || b >= T(8 * sizeof(T)) ? T(0) : T(a << b); }
template <class T> __device__ inline T shifted_right(T a, T b) {
    return b < T(0) || b >= T(8 * sizeof(T)) ? (a < T(0) ? T(-1) : T(0)) : T(a >> b);
}

// Folds: a neutral element and a commutative join.
struct Sum {
    template <class T> static __device__ T neutral() { return T(0); }
    template <class T> static __device__ T join(T a, T b) { return a + b; }
};
struct Product {
    template <class T> static __device__ T neutral() { return T(1); }
    template <class T> static __device__ T join(T a, T b) { return a * b; }
};
template <class T> struct Ends {
    static __device__ T low() { return Limits<T>::low; }
    static __device__ T high() { return Limits<T>::high; }
};
template <> struct Ends<float> {
    static __device__ float low() { return of_bits(0xff800000u); }
    static __device__ float high() { return of_bits(0x7f800000u); }
};
template <> struct Ends<double> {
    static __device__ double low() { return -double(of_bits(0x7f800000u)); }
    static __device__ double high() { return double(of_bits(0x7f800000u)); }
};
struct Min {
    template <class T> static __device__ T neutral() { return Ends<T>::high(); }
    template <class T> static __device__ T join(T a, T b) { return minimum(a, b); }
};
struct Max {
    template <class T> static __device__ T neutral() { return Ends<T>::low(); }
    template <class T> static __device__ T join(T a, T b) { return maximum(a, b); }
};
struct And {
    template <class T> static __device__ T neutral() { return T(1); }
    template <class T> static __device__ T join(T a, T b) { return T(a && b); }
};
struct Or {
    template <class T> static __device__ T neutral() { return T(0); }
    template <class T> static __device__ T join(T a, T b) { return T(a || b); }
};
// A value and its position: the first of equals wins, and NaN wins over numbers.
template <class T> struct Place { T value; int at; };
template <class T> __device__ inline bool ahead(bool better, const Place<T>& a, const Place<T>& b) {
    const bool a_nan = a.value != a.value, b_nan = b.value != b.value;
    if (a_nan || b_nan) return a_nan && (!b_nan || a.at < b.at);
    return better || (a.value == b.value && a.at < b.at);
}
struct ArgMin {
    template <class T> static __device__ Place<T> neutral_place() { return {Ends<T>::high(), 0x7fffffff}; }
    template <class T> static __device__ Place<T> join(Place<T> a, Place<T> b) { return ahead(a.value < b.value, a, b) ? a : b; }
};
struct ArgMax {
    template <class T> static __device__ Place<T> neutral_place() { return {Ends<T>::low(), 0x7fffffff}; }
    template <class T> static __device__ Place<T> join(Place<T> a, Place<T> b) { return ahead(a.value > b.value, a, b) ? a : b; }
};

template <class T> __device__ inline T from_lane(T value, int distance) { return __shfl_xor_sync(0xffffffffu, value, distance); }
template <> __device__ inline bool from_lane(bool value, int distance) { return __shfl_xor_sync(0xffffffffu, int(value), distance) != 0; }
template <class T> __device__ inline Place<T> from_lane(Place<T> place, int distance) {
    return {from_lane(place.value, distance), from_lane(place.at, distance)};
}

// Joins the values of LANES neighbouring threads (a power of two, at most 32); all of them get the result.
template <class F, int LANES, class T> __device__ inline T join_lanes(T value) {
    _Pragma("unroll") for (int distance = LANES / 2; distance > 0; distance /= 2) value = F::join(value, from_lane(value, distance));
    return value;
}

// Joins the values of all THREADS of a block (a multiple of 32); all of them get the result.
template <class F, int THREADS, class T> __device__ inline T join_block(T value) {
    __shared__ T parts[THREADS / 32];
    value = join_lanes<F, 32>(value);
    if (threadIdx.x % 32 == 0) parts[threadIdx.x / 32] = value;
    __syncthreads();
    T made = parts[0];
    _Pragma("unroll") for (int warp = 1; warp < THREADS / 32; ++warp) made = F::join(made, parts[warp]);
    __syncthreads();
    return made;
}

// Joins the values of the threads of equal threadIdx.x, X of which stand beside each other and Y on one another.
template <class F, int X, int Y, class T> __device__ inline T join_column(T value) {
    __shared__ T parts[Y][X];
    parts[threadIdx.y][threadIdx.x] = value;
    __syncthreads();
    T made = parts[0][threadIdx.x];
    _Pragma("unroll") for (int y = 1; y < Y; ++y) made = F::join(made, parts[y][threadIdx.x]);
    __syncthreads();
    return made;
}
