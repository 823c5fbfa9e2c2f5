// How the L2 cache keeps weights: as all else, or as the first to leave it where a network's weights do not fit
// (device/retention.py). Source: the PTX ISA, createpolicy.
#pragma once

__device__ __forceinline__ unsigned long long weight_policy(int first_to_leave) {
  unsigned long long first, normal;
  asm("createpolicy.fractional.L2::evict_first.b64 %0, 1.0;" : "=l"(first));
  asm("createpolicy.fractional.L2::evict_normal.b64 %0, 1.0;" : "=l"(normal));
  return first_to_leave ? first : normal;
}
