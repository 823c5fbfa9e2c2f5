// CUDA kernels as plain C++, one thread at a time: enough to test what a kernel computes where there is no GPU.
//
// Blocks run one after another. The threads of a block run until one waits for others (__syncthreads, a shuffle): it
// keeps its stack, and the next thread gets another one. Shared memory is static, for there is one block at a time.
#pragma once
#include <setjmp.h>
#include <ucontext.h>
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <tuple>
#include <utility>
#include <vector>

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __noinline__
#define __shared__ static
#define __constant__ static
#define __restrict__
#define __launch_bounds__(...)
#define __align__(n) alignas(n)
#define __grid_constant__

struct uint2 { unsigned x, y; };
struct alignas(16) uint4 { unsigned x, y, z, w; };
struct float2 { float x, y; };
struct alignas(16) float4 { float x, y, z, w; };
struct int2 { int x, y; };
struct alignas(16) int4 { int x, y, z, w; };
inline uint4 make_uint4(unsigned x, unsigned y, unsigned z, unsigned w) { return {x, y, z, w}; }
inline uint2 make_uint2(unsigned x, unsigned y) { return {x, y}; }
inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }
inline float2 make_float2(float x, float y) { return {x, y}; }
struct dim3 {
    unsigned x, y, z;
    dim3(unsigned x = 1, unsigned y = 1, unsigned z = 1) : x(x), y(y), z(z) {}
};
inline dim3 threadIdx, blockIdx, blockDim, gridDim;
constexpr int warpSize = 32;

namespace cuda_on_host {

constexpr size_t STACK = 128 << 10, SHARED = 232448;

struct Barrier { unsigned arrived = 0, round = 0; };

struct Fiber {
    ucontext_t start;
    jmp_buf at;
    void* stack = nullptr;
    bool fresh = true;
};

struct Thread { dim3 index; unsigned number; int fiber = -1; bool done = false; };

struct Machine {
    std::vector<Fiber*> fibers;
    std::vector<int> idle;
    std::vector<Thread> threads;
    std::vector<Barrier> warps;
    std::vector<unsigned> warp_left;
    Barrier block;
    unsigned next = 0, left = 0;
    jmp_buf scheduler;
    int current_fiber = -1;
    unsigned current = 0;
    bool progressed = false;
    uint64_t exchange[1024];
    void (*body)(void*) = nullptr;
    void* arguments = nullptr;
    unsigned char* shared = nullptr;
};
inline Machine machine;

inline void finish(unsigned number) {  // others may have waited for this one
    Machine& m = machine;
    m.threads[number].done = true;
    m.progressed = true;
    --m.left;
    const unsigned left = --m.warp_left[number / 32];
    Barrier& warp = m.warps[number / 32];
    if (warp.arrived && warp.arrived >= left) warp.arrived = 0, ++warp.round;
    if (m.block.arrived && m.block.arrived >= m.left) m.block.arrived = 0, ++m.block.round;
}

inline void entry() {  // a fiber: threads that nobody has begun, one after another, until one waits or all have begun
    Machine& m = machine;
    const int own = m.current_fiber;
    while (true) {
        while (m.next < m.threads.size()) {
            const unsigned number = m.current = m.next++;
            m.threads[number].fiber = own;
            threadIdx = m.threads[number].index;
            m.body(m.arguments);
            finish(number);
        }
        m.idle.push_back(own);
        if (!_setjmp(m.fibers[own]->at)) _longjmp(m.scheduler, 1);
    }
}

inline void resume(int number) {
    Machine& m = machine;
    m.current_fiber = number;
    Fiber* fiber = m.fibers[number];
    if (_setjmp(m.scheduler)) return;
    if (fiber->fresh) {
        fiber->fresh = false;
        setcontext(&fiber->start);
    } else {
        _longjmp(fiber->at, 1);
    }
}

inline int fiber() {
    Machine& m = machine;
    if (!m.idle.empty()) {
        const int number = m.idle.back();
        m.idle.pop_back();
        return number;
    }
    Fiber* made = new Fiber;
    made->stack = malloc(STACK);
    getcontext(&made->start);
    made->start.uc_stack.ss_sp = made->stack;
    made->start.uc_stack.ss_size = STACK;
    made->start.uc_link = nullptr;
    makecontext(&made->start, entry, 0);
    m.fibers.push_back(made);
    return int(m.fibers.size()) - 1;
}

inline void wait(Barrier& barrier, unsigned wanted) {
    Machine& m = machine;
    const unsigned round = barrier.round;
    m.progressed = true;
    if (++barrier.arrived >= wanted) {
        barrier.arrived = 0;
        ++barrier.round;
        return;
    }
    const unsigned self = m.current;
    const int own = m.current_fiber;
    while (barrier.round == round) {
        if (!_setjmp(m.fibers[own]->at)) _longjmp(m.scheduler, 1);
    }
    m.current = self;
    m.current_fiber = own;
    threadIdx = m.threads[self].index;
}

inline void run_block() {
    Machine& m = machine;
    const unsigned count = blockDim.x * blockDim.y * blockDim.z;
    m.threads.assign(count, Thread{});
    for (unsigned n = 0; n < count; ++n) {
        m.threads[n].index = dim3(n % blockDim.x, n / blockDim.x % blockDim.y, n / blockDim.x / blockDim.y);
        m.threads[n].number = n;
    }
    m.warps.assign((count + 31) / 32, Barrier{});
    m.warp_left.assign((count + 31) / 32, 32);
    if (count % 32) m.warp_left.back() = count % 32;
    m.block = Barrier{};
    m.next = 0;
    m.left = count;
    memset(m.shared, 0xff, SHARED);
    unsigned idle_rounds = 0;
    while (m.left) {
        m.progressed = false;
        if (m.next < count) resume(fiber());
        for (unsigned n = 0; n < m.next; ++n) {
            if (!m.threads[n].done && m.next >= count) resume(m.threads[n].fiber);
        }
        idle_rounds = m.progressed ? 0 : idle_rounds + 1;
        if (idle_rounds > 2) {
            fprintf(stderr, "cuda_on_host: threads of a block wait for each other for ever\n");
            abort();
        }
    }
}

template <class T> T exchange(T value, unsigned from) {
    static_assert(sizeof(T) <= 8);
    Machine& m = machine;
    const unsigned self = m.current, warp = self / 32;
    memcpy(&m.exchange[self], &value, sizeof(T));
    wait(m.warps[warp], m.warp_left[warp]);
    T made = value;
    if (warp * 32 + from < m.threads.size()) memcpy(&made, &m.exchange[warp * 32 + from], sizeof(T));
    wait(m.warps[warp], m.warp_left[warp]);
    return made;
}

inline unsigned lane() { return machine.current % 32; }

template <class... A, size_t... I> void invoke(void (*kernel)(A...), void** given, std::index_sequence<I...>) {
    kernel(*static_cast<std::remove_cv_t<std::remove_reference_t<A>>*>(given[I])...);
}

template <auto kernel> struct Call;
template <class... A, void (*kernel)(A...)> struct Call<kernel> {
    static void run(void* given) { invoke(kernel, static_cast<void**>(given), std::index_sequence_for<A...>{}); }
};

template <auto kernel> void launch(void** arguments, const unsigned* grid, const unsigned* block) {
    Machine& m = machine;
    if (!m.shared) m.shared = static_cast<unsigned char*>(aligned_alloc(1024, SHARED));
    m.body = &Call<kernel>::run;
    m.arguments = arguments;
    gridDim = dim3(grid[0], grid[1], grid[2]);
    blockDim = dim3(block[0], block[1], block[2]);
    for (unsigned z = 0; z < grid[2]; ++z)
        for (unsigned y = 0; y < grid[1]; ++y)
            for (unsigned x = 0; x < grid[0]; ++x) {
                blockIdx = dim3(x, y, z);
                run_block();
            }
}

}  // namespace cuda_on_host

inline void __syncthreads() { cuda_on_host::wait(cuda_on_host::machine.block, cuda_on_host::machine.left); }
inline void __syncwarp(unsigned = 0xffffffffu) {
    auto& m = cuda_on_host::machine;
    cuda_on_host::wait(m.warps[m.current / 32], m.warp_left[m.current / 32]);
}
template <class T> T __shfl_sync(unsigned, T value, int from, int width = 32) {
    const unsigned lane = cuda_on_host::lane();
    return cuda_on_host::exchange(value, (lane & ~(width - 1)) | (from & (width - 1)));
}
template <class T> T __shfl_xor_sync(unsigned, T value, int mask, int = 32) {
    return cuda_on_host::exchange(value, cuda_on_host::lane() ^ mask);
}
template <class T> T __shfl_down_sync(unsigned, T value, int by, int width = 32) {
    const unsigned lane = cuda_on_host::lane();
    return cuda_on_host::exchange(value, lane % width + by < unsigned(width) ? lane + by : lane);
}
template <class T> T __shfl_up_sync(unsigned, T value, int by, int width = 32) {
    const unsigned lane = cuda_on_host::lane();
    return cuda_on_host::exchange(value, int(lane % width) >= by ? lane - by : lane);
}
inline unsigned __ballot_sync(unsigned, bool condition) {
    unsigned made = 0;
    for (unsigned n = 0; n < 32; ++n) made |= unsigned(__shfl_sync(0xffffffffu, int(condition), n) != 0) << n;
    const unsigned alive = cuda_on_host::machine.threads.size() - cuda_on_host::machine.current / 32 * 32;
    return alive < 32 ? made & ((1u << alive) - 1) : made;
}
inline bool __any_sync(unsigned mask, bool condition) { return __ballot_sync(mask, condition) != 0; }
inline bool __all_sync(unsigned mask, bool condition) { return __ballot_sync(mask, !condition) == 0; }
inline void __threadfence() {}
inline int __popc(unsigned x) { return __builtin_popcount(x); }
inline int __clz(unsigned x) { return x ? __builtin_clz(x) : 32; }
inline int __ffs(unsigned x) { return __builtin_ffs(x); }
inline float __int_as_float(int x) { float y; memcpy(&y, &x, 4); return y; }
inline int __float_as_int(float x) { int y; memcpy(&y, &x, 4); return y; }
inline float __uint_as_float(unsigned x) { float y; memcpy(&y, &x, 4); return y; }
inline unsigned __float_as_uint(float x) { unsigned y; memcpy(&y, &x, 4); return y; }
inline float rsqrtf(float x) { return 1.0f / sqrtf(x); }
inline float __expf(float x) { return expf(x); }
inline float __fdividef(float x, float y) { return x / y; }
template <class T> T __ldg(const T* from) { return *from; }
template <class T> T atomicAdd(T* to, T value) { T old = *to; *to = old + value; return old; }
template <class T> T atomicMax(T* to, T value) { T old = *to; *to = std::max(old, value); return old; }
template <class T> T atomicMin(T* to, T value) { T old = *to; *to = std::min(old, value); return old; }
template <class T> T atomicExch(T* to, T value) { T old = *to; *to = value; return old; }
template <class T> T atomicCAS(T* to, T wanted, T value) { T old = *to; if (old == wanted) *to = value; return old; }
inline unsigned min(unsigned a, unsigned b) { return a < b ? a : b; }
inline int min(int a, int b) { return a < b ? a : b; }
inline unsigned max(unsigned a, unsigned b) { return a > b ? a : b; }
inline int max(int a, int b) { return a > b ? a : b; }
inline float min(float a, float b) { return fminf(a, b); }
inline float max(float a, float b) { return fmaxf(a, b); }
inline long long min(long long a, long long b) { return a < b ? a : b; }
inline long long max(long long a, long long b) { return a > b ? a : b; }
