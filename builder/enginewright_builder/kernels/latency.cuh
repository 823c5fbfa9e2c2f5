// The instructions of Hopper (sm_90a) that the small-batch kernels use, one function each. No header is needed: NVRTC
// compiles these in a fraction of the time that cuda_fp16.h alone would take.
//
// Words: a *barrier* is an mbarrier in shared memory, which counts bytes that arrive asynchronously; a *rank* is a
// block's number within its cluster; addresses of type u32 are in shared memory. PTX ISA 8.0, sections "mbarrier",
// "cp.async.bulk", "wgmma", "griddepcontrol".
#pragma once

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;

#define DEVICE __device__ __forceinline__
#define UNROLL _Pragma("unroll")

struct alignas(64) TensorMap {
  u64 opaque[16];
};

// --- programmatic dependent launch ---------------------------------------------------------------------------------

#if __CUDA_ARCH__ >= 900
// The next kernel may start now; it waits below for this one's results.
DEVICE void let_next_start() { asm volatile("griddepcontrol.launch_dependents;" ::: "memory"); }

// Every earlier kernel has ended and its stores are visible. Before this, touch constants only.
DEVICE void wait_for_previous() { asm volatile("griddepcontrol.wait;" ::: "memory"); }
#else  // kernels that run on older cards too start after the previous one anyhow
DEVICE void let_next_start() {}
DEVICE void wait_for_previous() {}
#endif

// --- shared memory and barriers ------------------------------------------------------------------------------------

DEVICE u32 shared_address(const void* pointer) { return (u32)__cvta_generic_to_shared(pointer); }

// True in one thread of the warp, always the same one.
DEVICE bool is_elected() {
  u32 yes;
  asm volatile("{\n.reg .pred q;\nelect.sync _|q, 0xffffffff;\nselp.b32 %0, 1, 0, q;\n}" : "=r"(yes));
  return yes != 0;
}

DEVICE void barrier_init(u32 barrier) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], 1;" ::"r"(barrier) : "memory");
}

DEVICE void barrier_init(u32 barrier, int arrivals) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(barrier), "r"(arrivals) : "memory");
}

DEVICE void barrier_arrive(u32 barrier) {
  asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(barrier) : "memory");
}

DEVICE void barriers_are_ready() { asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory"); }

// The barrier's one arrival: its phase ends when `bytes` bytes have come.
DEVICE void barrier_expect(u32 barrier, int bytes) {
  asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(barrier), "r"(bytes) : "memory");
}

DEVICE void barrier_wait(u32 barrier, int parity) {
  asm volatile(
      "{\n.reg .pred q;\nAGAIN:\nmbarrier.try_wait.parity.shared::cta.b64 q, [%0], %1;\n@!q bra AGAIN;\n}" ::"r"(barrier),
      "r"(parity)
      : "memory");
}

// Ordinary accesses to shared memory before this come before what the copy engine and the tensor cores do after it.
DEVICE void fence_for_async() { asm volatile("fence.proxy.async.shared::cta;" ::: "memory"); }

// The 128 threads of warpgroup `group`; barrier 0 is __syncthreads's.
DEVICE void sync_warpgroup(int group) { asm volatile("bar.sync %0, 128;" ::"r"(group + 1) : "memory"); }

// --- copies --------------------------------------------------------------------------------------------------------

DEVICE void copy_to_shared(u32 target, const void* source, int bytes, u32 barrier) {
  asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::"r"(target),
               "l"(source), "r"(bytes), "r"(barrier)
               : "memory");
}

// How the L2 cache keeps weights: as all else, or as the first to leave it where a network's weights do not fit
// (device/retention.py).
DEVICE u64 weight_policy(int first_to_leave) {
  u64 first, normal;
  asm("createpolicy.fractional.L2::evict_first.b64 %0, 1.0;" : "=l"(first));
  asm("createpolicy.fractional.L2::evict_normal.b64 %0, 1.0;" : "=l"(normal));
  return first_to_leave ? first : normal;
}

// `policy` is of the L2 cache, as weight_policy makes it.
DEVICE void copy_to_shared(u32 target, const void* source, int bytes, u32 barrier, u64 policy) {
  asm volatile(
      "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes.L2::cache_hint [%0], [%1], %2, [%3], %4;" ::"r"(
          target),
      "l"(source), "r"(bytes), "r"(barrier), "l"(policy)
      : "memory");
}

DEVICE void prefetch_map(const TensorMap* map) { asm volatile("prefetch.tensormap [%0];" ::"l"(map) : "memory"); }

// A box of (channels, columns, rows, images) that begins at these coordinates; outside of the tensor it is zero.
DEVICE void copy_box(u32 target, const TensorMap* map, int channel, int column, int row, int image, u32 barrier) {
  asm volatile(
      "cp.async.bulk.tensor.4d.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1, {%2, %3, %4, %5}], [%6];" ::"r"(
          target),
      "l"(map), "r"(channel), "r"(column), "r"(row), "r"(image), "r"(barrier)
      : "memory");
}

// A stretch of constants that a later launch reads, of which each block of this one asks the L2 cache for a share.
struct Later {
  u32 bytes, share;
};

DEVICE void ask_for_later(const u8* stretch, const Later& later, u64 policy) {
  const u32 from = ((blockIdx.z * gridDim.y + blockIdx.y) * gridDim.x + blockIdx.x) * later.share;
  if (from < later.bytes)
    asm volatile("cp.async.bulk.prefetch.L2.global.L2::cache_hint [%0], %1, %2;" ::"l"(stretch + from),
                 "r"(min(later.share, later.bytes - from)), "l"(policy)
                 : "memory");
}

// A constant that is read once: it needn't wait for the previous kernel, nor stay in the L1.
DEVICE uint4 load_constant16(const void* p) {
  uint4 v;
  asm volatile("ld.global.nc.L1::no_allocate.v4.u32 {%0, %1, %2, %3}, [%4];"
               : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w)
               : "l"(p));
  return v;
}

DEVICE uint2 load8(const void* p) {
  uint2 v;
  asm volatile("ld.global.v2.b32 {%0, %1}, [%2];" : "=r"(v.x), "=r"(v.y) : "l"(p) : "memory");
  return v;
}

// Predicated rather than branched around, so that nothing that a store needs moves behind a branch.
DEVICE void store8_if(bool yes, void* p, uint2 v) {
  asm volatile("{\n.reg .pred q;\nsetp.ne.u32 q, %0, 0;\n@q st.global.v2.b32 [%1], {%2, %3};\n}" ::"r"((u32)yes), "l"(p),
               "r"(v.x), "r"(v.y)
               : "memory");
}

DEVICE void store16(void* p, uint4 v) {
  asm volatile("st.global.v4.b32 [%0], {%1, %2, %3, %4};" ::"l"(p), "r"(v.x), "r"(v.y), "r"(v.z), "r"(v.w) : "memory");
}

DEVICE void store16_if(bool yes, void* p, uint4 v) {
  asm volatile("{\n.reg .pred q;\nsetp.ne.u32 q, %0, 0;\n@q st.global.v4.b32 [%1], {%2, %3, %4, %5};\n}" ::"r"((u32)yes),
               "l"(p), "r"(v.x), "r"(v.y), "r"(v.z), "r"(v.w)
               : "memory");
}

// --- clusters ------------------------------------------------------------------------------------------------------

// Arrive and wait are apart so that work fits between them. The relaxed form orders no memory.
DEVICE void cluster_arrive_relaxed() { asm volatile("barrier.cluster.arrive.relaxed.aligned;" ::: "memory"); }
DEVICE void cluster_arrive() { asm volatile("barrier.cluster.arrive.release.aligned;" ::: "memory"); }
DEVICE void cluster_wait() { asm volatile("barrier.cluster.wait.acquire.aligned;" ::: "memory"); }

// The address in block `rank` of the cluster of what lies at `address` in this one.
DEVICE u32 address_in(int rank, u32 address) {
  u32 there;
  asm volatile("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(there) : "r"(address), "r"(rank));
  return there;
}

// Stores into another block's shared memory, counted by a barrier of that block.
DEVICE void push16(u32 target, uint4 v, u32 barrier) {
  asm volatile(
      "st.async.shared::cluster.mbarrier::complete_tx::bytes.v4.b32 [%0], {%1, %2, %3, %4}, [%5];" ::"r"(target), "r"(v.x),
      "r"(v.y), "r"(v.z), "r"(v.w), "r"(barrier)
      : "memory");
}

DEVICE void push8(u32 target, uint2 v, u32 barrier) {
  asm volatile("st.async.shared::cluster.mbarrier::complete_tx::bytes.v2.b32 [%0], {%1, %2}, [%3];" ::"r"(target), "r"(v.x),
               "r"(v.y), "r"(barrier)
               : "memory");
}

// --- numbers -------------------------------------------------------------------------------------------------------

// Two float32 rounded to the element type (to even), the first in the low half. Too large becomes infinity.
DEVICE u32 pack_float16(float low, float high) {
  u32 v;
  asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(v) : "f"(high), "f"(low));
  return v;
}

DEVICE float2 unpack_float16(u32 v) {
  float2 f;
  asm("{\n.reg .b16 l, h;\nmov.b32 {l, h}, %2;\ncvt.f32.f16 %0, l;\ncvt.f32.f16 %1, h;\n}" : "=f"(f.x), "=f"(f.y) : "r"(v));
  return f;
}

#if ELEMENT_IS_BFLOAT16
#define ELEMENT "bf16"
DEVICE u32 pack(float low, float high) {
  u32 v;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(v) : "f"(high), "f"(low));
  return v;
}
DEVICE float2 unpack(u32 v) { return make_float2(__uint_as_float(v << 16), __uint_as_float(v & 0xffff0000u)); }
#else
#define ELEMENT "f16"
DEVICE u32 pack(float low, float high) { return pack_float16(low, high); }
DEVICE float2 unpack(u32 v) { return unpack_float16(v); }
#endif

// Of two elements each the larger, NaN if either is.
DEVICE u32 larger_pair(u32 a, u32 b) {
  u32 c;
  asm("max.NaN." ELEMENT "x2 %0, %1, %2;" : "=r"(c) : "r"(a), "r"(b));
  return c;
}

// Rectified and packed in one instruction; NaN stays NaN.
DEVICE u32 pack_positive(float low, float high) {
  u32 v;
  asm("cvt.rn.relu." ELEMENT "x2.f32 %0, %1, %2;" : "=r"(v) : "f"(high), "f"(low));
  return v;
}

// --- the tensor cores ----------------------------------------------------------------------------------------------

enum Swizzle { NONE = 0, BYTES_128 = 1, BYTES_64 = 2, BYTES_32 = 3 };

// A matrix in shared memory for wgmma. Eight rows of 16 bytes are its unit: `along` is the step in bytes to the next 16
// bytes of a row (no meaning with a swizzle), `down` the step to the next eight rows.
DEVICE u64 matrix(u32 address, u32 along, u32 down, Swizzle swizzle) {
  return (u64)((address & 0x3ffff) >> 4) | (u64)(along >> 4) << 16 | (u64)(down >> 4) << 32 | (u64)swizzle << 62;
}

DEVICE void products_begin() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
DEVICE void products_end() {
  asm volatile("wgmma.commit_group.sync.aligned;\nwgmma.wait_group.sync.aligned 0;" ::: "memory");
}
// The same in two, so that work fits between them.
DEVICE void products_start() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }
DEVICE void products_wait_but_one() { asm volatile("wgmma.wait_group.sync.aligned 1;" ::: "memory"); }
DEVICE void products_wait() { asm volatile("wgmma.wait_group.sync.aligned 0;" ::: "memory"); }

// d[64 rows of a][8 R rows of b] += a b^T over 16 of their columns (wgmma m64n(8R)k16), or = if `add` is 0. Of the result
// a thread (warp w, g = lane / 4, t = lane % 4) holds, at d[4 j + ...], rows 16 w + g (0, 1) and 16 w + g + 8 (2, 3) and
// columns 8 j + 2 t (0, 2) and 8 j + 2 t + 1 (1, 3).
#define PRODUCT(R, N, REGISTERS, OPERANDS, A, B, ADD)                                                               \
  DEVICE void multiply_add(float (&d)[4 * R], u64 a, u64 b, int add) {                                             \
    asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, %" #ADD ", 0;\n"                                                \
                 "wgmma.mma_async.sync.aligned.m64n" #N "k16.f32." ELEMENT "." ELEMENT " {" REGISTERS "}, %" #A    \
                 ", %" #B ", p, 1, 1, 0, 0;\n}"                                                                    \
                 : OPERANDS                                                                                        \
                 : "l"(a), "l"(b), "r"(add));                                                                      \
  }
#define FOUR(i) "+f"(d[i]), "+f"(d[i + 1]), "+f"(d[i + 2]), "+f"(d[i + 3])
#define NAMES1 "%0,%1,%2,%3"
#define NAMES2 NAMES1 ",%4,%5,%6,%7"
#define NAMES3 NAMES2 ",%8,%9,%10,%11"
#define NAMES4 NAMES3 ",%12,%13,%14,%15"
#define NAMES5 NAMES4 ",%16,%17,%18,%19"
#define NAMES6 NAMES5 ",%20,%21,%22,%23"
#define NAMES7 NAMES6 ",%24,%25,%26,%27"
#define NAMES8 NAMES7 ",%28,%29,%30,%31"
#define D1 FOUR(0)
#define D2 D1, FOUR(4)
#define D3 D2, FOUR(8)
#define D4 D3, FOUR(12)
#define D5 D4, FOUR(16)
#define D6 D5, FOUR(20)
#define D7 D6, FOUR(24)
#define D8 D7, FOUR(28)
PRODUCT(1, 8, NAMES1, D1, 4, 5, 6)
PRODUCT(2, 16, NAMES2, D2, 8, 9, 10)
PRODUCT(3, 24, NAMES3, D3, 12, 13, 14)
PRODUCT(4, 32, NAMES4, D4, 16, 17, 18)
PRODUCT(5, 40, NAMES5, D5, 20, 21, 22)
PRODUCT(6, 48, NAMES6, D6, 24, 25, 26)
PRODUCT(7, 56, NAMES7, D7, 28, 29, 30)
PRODUCT(8, 64, NAMES8, D8, 32, 33, 34)

// Results stay where they are until here (the compiler may not move their readers above products_end).
template <int N>
DEVICE void settle(float (&d)[N]) {
  UNROLL for (int i = 0; i < N; i++) asm volatile("" : "+f"(d[i])::"memory");
}
