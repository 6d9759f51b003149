// Hides from the compiler where a value comes from: it then keeps the value, and does not work it out again or work out
// early, and keep in registers, what follows from it.

#pragma once

#include <cuda_runtime.h>

#include <cstdint>

namespace rvq::cuda {

#ifdef RVQ_EMULATE_CUDA
template <typename T>
void make_opaque(T&) {}
#else
__device__ __forceinline__ void make_opaque(int& x) { asm volatile("" : "+r"(x)); }
__device__ __forceinline__ void make_opaque(uint32_t& x) { asm volatile("" : "+r"(x)); }
__device__ __forceinline__ void make_opaque(float& x) { asm volatile("" : "+f"(x)); }
#endif

}  // namespace rvq::cuda
