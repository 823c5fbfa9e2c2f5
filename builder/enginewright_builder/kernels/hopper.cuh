// Hopper's own instructions (sm_90a) as small functions: barriers in shared memory, the tensor memory accelerator (TMA),
// warpgroup matrix products, dependent launch. No header of the toolkit is needed, so that a kernel compiles in a blink.
// Source: the PTX ISA, chapters on mbarrier, cp.async.bulk.tensor and wgmma.
#pragma once
typedef unsigned short uint16_t;
typedef unsigned int uint32_t;
typedef unsigned long long uint64_t;
#define INLINE __device__ __forceinline__

struct alignas(64) TensorMap {
    unsigned char bytes[128];  // what cuTensorMapEncode* writes
};

INLINE uint32_t shared_address(const void* pointer) { return (uint32_t)__cvta_generic_to_shared(pointer); }

INLINE bool elect_one() {  // true in one lane of the warp
    uint32_t chosen;
    asm volatile("{\n.reg .pred p;\nelect.sync _|p, 0xffffffff;\nselp.b32 %0, 1, 0, p;\n}" : "=r"(chosen));
    return chosen != 0;
}

// ---- barriers -----------------------------------------------------------------------------------------------------
INLINE void barrier_init(uint32_t barrier, int arrivals) {
    asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(barrier), "r"(arrivals) : "memory");
}
INLINE void barrier_init_done() { asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory"); }
INLINE void barrier_expect(uint32_t barrier, uint32_t bytes) {  // arrives, and makes the phase wait for these bytes
    asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(barrier), "r"(bytes) : "memory");
}
INLINE void barrier_arrive(uint32_t barrier) {
    asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(barrier) : "memory");
}
INLINE void barrier_wait(uint32_t barrier, uint32_t parity) {  // until the phase of this parity has ended
    asm volatile(
        "{\n.reg .pred done;\nagain:\nmbarrier.try_wait.parity.shared::cta.b64 done, [%0], %1;\n"
        "@!done bra again;\n}" ::"r"(barrier), "r"(parity) : "memory");
}
INLINE void group_barrier(int number, int threads) {
    asm volatile("bar.sync %0, %1;" ::"r"(number), "r"(threads) : "memory");
}
INLINE void group_arrive(int number, int threads) {  // the others' group_barrier need not wait for this one any more
    asm volatile("bar.arrive %0, %1;" ::"r"(number), "r"(threads) : "memory");
}

// ---- copies by the tensor memory accelerator ----------------------------------------------------------------------
// A box whose first element has these coordinates, from device memory to shared memory; `barrier` counts its bytes.
// What lies outside of the tensor arrives as zeros.
INLINE void load_box(uint32_t to, const TensorMap* map, int x, int y, uint32_t barrier) {
    asm volatile(
        "cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1, {%2, %3}], [%4];" ::"r"(to),
        "l"(map), "r"(x), "r"(y), "r"(barrier) : "memory");
}
INLINE void load_box(uint32_t to, const TensorMap* map, int x, int y, int z, int w, uint32_t barrier) {
    asm volatile(
        "cp.async.bulk.tensor.4d.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1, {%2, %3, %4, %5}], [%6];" ::"r"(
            to), "l"(map), "r"(x), "r"(y), "r"(z), "r"(w), "r"(barrier) : "memory");
}
// im2col mode: a run of output pixels that begins at the window (x, y) of image n, each shifted by the tap (dx, dy).
INLINE void load_pixels(uint32_t to, const TensorMap* map, int channel, int x, int y, int n, int dx, int dy,
                        uint32_t barrier) {
    asm volatile(
        "cp.async.bulk.tensor.4d.shared::cluster.global.im2col.mbarrier::complete_tx::bytes [%0], [%1, {%2, %3, %4, %5}], "
        "[%6], {%7, %8};" ::"r"(to), "l"(map), "r"(channel), "r"(x), "r"(y), "r"(n), "r"(barrier), "h"((uint16_t)dx),
        "h"((uint16_t)dy) : "memory");
}
INLINE void store_box(const TensorMap* map, int x, int y, uint32_t from) {  // what lies outside is not written
    asm volatile("cp.async.bulk.tensor.2d.global.shared::cta.bulk_group [%0, {%1, %2}], [%3];" ::"l"(map), "r"(x), "r"(y),
                 "r"(from) : "memory");
}
INLINE void store_box(const TensorMap* map, int x, int y, int z, int w, uint32_t from) {
    asm volatile("cp.async.bulk.tensor.4d.global.shared::cta.bulk_group [%0, {%1, %2, %3, %4}], [%5];" ::"l"(map), "r"(x),
                 "r"(y), "r"(z), "r"(w), "r"(from) : "memory");
}
INLINE void expect_map(const TensorMap* map) {  // its first use need not wait for it then
    asm volatile("prefetch.tensormap [%0];" ::"l"(map) : "memory");
}
INLINE void store_commit() { asm volatile("cp.async.bulk.commit_group;" ::: "memory"); }
INLINE void stores_read() { asm volatile("cp.async.bulk.wait_group.read 0;" ::: "memory"); }  // their source is free
// Before TMA or wgmma reads what ordinary stores wrote to shared memory: in each thread that wrote.
INLINE void publish_shared() { asm volatile("fence.proxy.async.shared::cta;" ::: "memory"); }

// ---- warpgroup matrix products ------------------------------------------------------------------------------------
INLINE void products_begin() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
INLINE void products_commit() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }
template <int PENDING>
INLINE void products_wait() {
    asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(PENDING) : "memory");
}
template <int N>
INLINE void settle(float (&values)[N]) {  // the compiler may not move uses of accumulators above this line
#pragma unroll
    for (int i = 0; i < N; i++) asm volatile("" : "+f"(values[i])::"memory");
}
// Descriptor of a swizzled operand: rows of ROW_BYTES (the swizzle's width), eight rows a group, groups `group_bytes`
// apart; `panel_bytes` apart are the panels of an operand that is not contiguous along k.
template <int ROW_BYTES>
INLINE uint64_t operand(uint32_t address, uint32_t group_bytes, uint32_t panel_bytes = 16) {
    constexpr uint64_t swizzle = ROW_BYTES == 128 ? 1 : ROW_BYTES == 64 ? 2 : 3;
    return (uint64_t)((address & 0x3ffff) >> 4) | (uint64_t)(panel_bytes >> 4) << 16 | (uint64_t)(group_bytes >> 4) << 32 |
           swizzle << 62;
}
template <int REGISTERS>
INLINE void registers_raise() {
    asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(REGISTERS));
}
template <int REGISTERS>
INLINE void registers_lower() {
    asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(REGISTERS));
}

// ---- thread-block clusters ----------------------------------------------------------------------------------------
INLINE uint32_t cluster_rank() {
    uint32_t rank;
    asm volatile("mov.u32 %0, %%cluster_ctarank;" : "=r"(rank));
    return rank;
}
INLINE uint32_t address_in(uint32_t address, uint32_t rank) {  // the same place in another block's shared memory
    uint32_t there;
    asm volatile("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(there) : "r"(address), "r"(rank));
    return there;
}
// Four numbers to another block's shared memory, counted by a barrier of that block.
INLINE void send(uint32_t to, float x, float y, float z, float w, uint32_t barrier) {
    asm volatile("st.async.shared::cluster.mbarrier::complete_tx::bytes.v4.f32 [%0], {%1, %2, %3, %4}, [%5];" ::"r"(to),
                 "f"(x), "f"(y), "f"(z), "f"(w), "r"(barrier) : "memory");
}
INLINE void cluster_arrive() { asm volatile("barrier.cluster.arrive.release.aligned;" ::: "memory"); }
INLINE void cluster_wait() { asm volatile("barrier.cluster.wait.acquire.aligned;" ::: "memory"); }

// ---- programmatic dependent launch --------------------------------------------------------------------------------
INLINE void let_next_start() { asm volatile("griddepcontrol.launch_dependents;" ::: "memory"); }
INLINE void wait_for_previous() { asm volatile("griddepcontrol.wait;" ::: "memory"); }

// ---- constants ----------------------------------------------------------------------------------------------------
INLINE float2 two_constants(const float* from) {  // never written while the kernel runs: may be read at any time
    float2 values;
    asm("ld.global.nc.v2.f32 {%0, %1}, [%2];" : "=f"(values.x), "=f"(values.y) : "l"(from));
    return values;
}
INLINE float start_constant(const float* from) {  // brings its line into the L1 cache; `keep` it somewhere later
    float value;
    asm volatile("ld.global.nc.f32 %0, [%1];" : "=f"(value) : "l"(from));
    return value;
}
INLINE void keep(float value) { asm volatile("" ::"f"(value)); }

// ---- numbers ------------------------------------------------------------------------------------------------------
struct Half {};  // tags of element types
struct Bfloat16 {};
struct Float {};
template <class T> struct ItemOf { typedef uint16_t type; };
template <> struct ItemOf<Float> { typedef float type; };
template <class T> using Item = typename ItemOf<T>::type;
INLINE uint32_t pack(Half, float low, float high) {
    uint32_t both;
    asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(both) : "f"(high), "f"(low));
    return both;
}
INLINE uint32_t pack(Bfloat16, float low, float high) {
    uint32_t both;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(both) : "f"(high), "f"(low));
    return both;
}
INLINE float2 unpack(Half, uint32_t both) {
    float2 values;
    asm("{\n.reg .b16 low, high;\nmov.b32 {low, high}, %2;\ncvt.f32.f16 %0, low;\ncvt.f32.f16 %1, high;\n}"
        : "=f"(values.x), "=f"(values.y) : "r"(both));
    return values;
}
INLINE float2 unpack(Bfloat16, uint32_t both) {
    return make_float2(__uint_as_float(both << 16), __uint_as_float(both & 0xffff0000u));
}
INLINE uint32_t larger(Half, uint32_t a, uint32_t b) {  // of two numbers each; NaN if either is
    uint32_t c;
    asm("max.NaN.f16x2 %0, %1, %2;" : "=r"(c) : "r"(a), "r"(b));
    return c;
}
INLINE uint32_t larger(Bfloat16, uint32_t a, uint32_t b) {
    uint32_t c;
    asm("max.NaN.bf16x2 %0, %1, %2;" : "=r"(c) : "r"(a), "r"(b));
    return c;
}
