// What warp_matrix.cuh, latency.cuh and activations.cuh are to kernels/attention.cu, as plain C++: fragments as the PTX ISA
// draws them, and copies that arrive no earlier than they are waited for.
typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;
#define DEVICE inline
#define UNROLL
constexpr float LOG2_E = 1.44269504f;
#if ELEMENT_IS_BFLOAT16
typedef bfloat16 Half;
#else
typedef float16 Half;
#endif

DEVICE void let_next_start() {}
DEVICE void wait_for_previous() {}
DEVICE float exp2_fast(float x) { return exp2f(x); }
DEVICE float reciprocal(float x) { return 1.f / x; }
DEVICE u8* shared_memory() { return cuda_on_host::machine.shared; }
DEVICE u32 shared_address(const void* p) { return u32((const u8*)p - shared_memory()); }
DEVICE float number(u16 bits) {
  Half h = {bits};
  return read(&h);
}
DEVICE u16 bits(float value) {
  Half h;
  write(&h, value);
  return h.bits;
}
DEVICE u32 pack(float low, float high) { return bits(low) | u32(bits(high)) << 16; }
DEVICE float2 unpack(u32 v) { return {number(u16(v)), number(u16(v >> 16))}; }
DEVICE void store16(void* p, uint4 v) {
  if (u64(p) % 16) fprintf(stderr, "a store of 16 bytes is not aligned\n"), abort();
  memcpy(p, &v, 16);
}

struct Copy { u32 target; const void* source; };
inline std::vector<std::vector<Copy>> groups[1024];
inline std::vector<Copy> begun[1024];

DEVICE void copy16(u32 target, const void* source, bool exists) {
  if (target % 16 || (exists && u64(source) % 16)) fprintf(stderr, "a copy of 16 bytes is not aligned\n"), abort();
  begun[cuda_on_host::machine.current].push_back({target, exists ? source : nullptr});
}
DEVICE void copies_commit() {
  const unsigned self = cuda_on_host::machine.current;
  groups[self].push_back(begun[self]);
  begun[self].clear();
}
template <int PENDING>
DEVICE void copies_wait() {
  auto& mine = groups[cuda_on_host::machine.current];
  while (mine.size() > PENDING) {
    for (const Copy& copy : mine.front()) {
      if (copy.source) memcpy(shared_memory() + copy.target, copy.source, 16);
      else memset(shared_memory() + copy.target, 0, 16);
    }
    mine.erase(mine.begin());
  }
}

DEVICE void load_matrices(u32 (&r)[4], u32 row) {
  const int lane = cuda_on_host::lane();
  for (int i = 0; i < 4; i++) {
    const u32 from = __shfl_sync(~0u, row, i * 8 + lane / 4);
    memcpy(&r[i], shared_memory() + from + lane % 4 * 4, 4);
  }
}
DEVICE void load_transposed(u32 (&r)[4], u32 row) {
  const int lane = cuda_on_host::lane();
  for (int i = 0; i < 4; i++) {
    const u32 first = __shfl_sync(~0u, row, i * 8 + lane % 4 * 2), second = __shfl_sync(~0u, row, i * 8 + lane % 4 * 2 + 1);
    u16 low, high;
    memcpy(&low, shared_memory() + first + lane / 4 * 2, 2);
    memcpy(&high, shared_memory() + second + lane / 4 * 2, 2);
    r[i] = low | u32(high) << 16;
  }
}

inline float left[32][16][16], right[32][16][8];

DEVICE void multiply_add(float (&d)[4], const u32 (&a)[4], u32 first, u32 second) {
  const int warp = cuda_on_host::machine.current / 32, lane = cuda_on_host::lane(), g = lane / 4, t = lane % 4;
  for (int i = 0; i < 4; i++) {
    const float2 pair = unpack(a[i]);
    left[warp][g + i % 2 * 8][2 * t + i / 2 * 8] = pair.x, left[warp][g + i % 2 * 8][2 * t + i / 2 * 8 + 1] = pair.y;
  }
  const float2 upper = unpack(first), lower = unpack(second);
  right[warp][2 * t][g] = upper.x, right[warp][2 * t + 1][g] = upper.y;
  right[warp][2 * t + 8][g] = lower.x, right[warp][2 * t + 9][g] = lower.y;
  __syncwarp();
  for (int i = 0; i < 4; i++)
    for (int k = 0; k < 16; k++) d[i] += left[warp][g + i / 2 * 8][k] * right[warp][k][2 * t + i % 2];
  __syncwarp();
}
