// Kernels that are as small as can be, each to show one thing of the executor. Compiled by conftest.py.
extern "C" __global__ void add(const float* x, const float* w, float* y, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) y[i] = x[i] + w[i];
}
extern "C" __global__ void twice(const float* x, float* y, int n) {
    asm volatile("griddepcontrol.wait;" ::: "memory");
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) y[i] = x[i] * 2.f;
    asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
}
extern "C" __global__ void slow_fill(float* y, int n) {  // long enough that a reader who does not wait sees the old
    asm volatile("griddepcontrol.wait;" ::: "memory");
    asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
    for (int k = 0; k < 100; k++) __nanosleep(1000);
    for (int i = threadIdx.x; i < n; i += blockDim.x) y[i] = 3.f;
}
extern "C" __global__ void cluster_rank(int* y) {
    unsigned rank, size;
    asm volatile("mov.u32 %0, %%cluster_ctarank;" : "=r"(rank));
    asm volatile("mov.u32 %0, %%cluster_nctarank;" : "=r"(size));
    if (threadIdx.x == 0) y[blockIdx.x] = rank * 100 + size;
}
struct alignas(64) Map { unsigned long long opaque[16]; };
extern "C" __global__ void tma_copy(const __grid_constant__ Map map, float* y) {
    extern __shared__ __align__(128) float tile[];
    __shared__ __align__(8) unsigned long long barrier;
    unsigned at = (unsigned)__cvta_generic_to_shared(tile), bar = (unsigned)__cvta_generic_to_shared(&barrier);
    if (threadIdx.x == 0) {
        asm volatile("mbarrier.init.shared::cta.b64 [%0], 1;" :: "r"(bar));
        asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
        asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" :: "r"(bar), "r"(8 * 32 * 4));
        asm volatile("cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes"
            " [%0], [%1, {%2, %3}], [%4];"
            :: "r"(at), "l"(&map), "r"(0), "r"((int)blockIdx.x * 8), "r"(bar) : "memory");
    }
    __syncthreads();
    asm volatile("{\n.reg .pred p;\nwait:\nmbarrier.try_wait.parity.shared::cta.b64 p, [%0], 0;\n"
        "@!p bra wait;\n}" :: "r"(bar) : "memory");
    for (int i = threadIdx.x; i < 256; i += blockDim.x) y[blockIdx.x * 256 + i] = tile[i];
}
extern "C" __global__ void shared_top(float* y, int last) {
    extern __shared__ float big[];
    big[last] = 7.f;
    y[0] = big[last];
}
