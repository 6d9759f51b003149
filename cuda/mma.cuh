// Tensor-core products and asynchronous copies, on every architecture from sm_75 on.

#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#ifdef RVQ_EMULATE_CUDA
#include <products.h>
#endif

namespace rvq::cuda {

// sums[4] += a · b, a 16×16 (row-major) and b 16×8 of float16, float32 sums: the fragments of mma.sync.m16n8k16. With
// g = lane / 4 and t = lane % 4: sums are (g, 2t), (g, 2t+1), (g+8, 2t), (g+8, 2t+1); a holds columns 2t, 2t+1 of rows
// g and g+8, then columns 2t+8, 2t+9 of them; b holds rows 2t, 2t+1 and 2t+8, 2t+9 of column g.
__device__ __forceinline__ void multiply_add(float (&sums)[4], const uint4& a, uint32_t b0, uint32_t b1) {
#ifdef RVQ_EMULATE_CUDA
  emulation::multiply_add(sums, {a.x, a.y, a.z, a.w}, {b0, b1});
#elif __CUDA_ARCH__ >= 800
  asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};\n"
      : "+f"(sums[0]), "+f"(sums[1]), "+f"(sums[2]), "+f"(sums[3])
      : "r"(a.x), "r"(a.y), "r"(a.z), "r"(a.w), "r"(b0), "r"(b1));
#else
  asm("mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5}, {%8}, {%0,%1,%2,%3};\n"
      "mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%6,%7}, {%9}, {%0,%1,%2,%3};\n"
      : "+&f"(sums[0]), "+&f"(sums[1]), "+&f"(sums[2]), "+&f"(sums[3])
      : "r"(a.x), "r"(a.y), "r"(a.z), "r"(a.w), "r"(b0), "r"(b1));
#endif
}

// There is code for limbs (screen_bound.h) for the architectures that can have use for it.
#if defined(RVQ_EMULATE_CUDA) || __CUDA_ARCH__ == 750 || __CUDA_ARCH__ == 860 || __CUDA_ARCH__ == 890 || \
    __CUDA_ARCH__ == 1200
#define RVQ_LIMBS
#endif

// The same of integers, exactly: a 16×32 and b 32×8 of int8, the fragments of mma.sync.m16n8k32. a holds columns 4t …
// 4t+3 of rows g and g+8, then columns 4t+16 … 4t+19 of them; b holds rows 4t … 4t+3 and 4t+16 … 4t+19 of column g.
__device__ __forceinline__ void multiply_add(int (&sums)[4], const uint4& a, uint32_t b0, uint32_t b1) {
#ifdef RVQ_EMULATE_CUDA
  emulation::multiply_add(sums, {a.x, a.y, a.z, a.w}, {b0, b1});
#elif __CUDA_ARCH__ >= 800
  asm("mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};\n"
      : "+r"(sums[0]), "+r"(sums[1]), "+r"(sums[2]), "+r"(sums[3])
      : "r"(a.x), "r"(a.y), "r"(a.z), "r"(a.w), "r"(b0), "r"(b1));
#else
  asm("mma.sync.aligned.m8n8k16.row.col.s32.s8.s8.s32 {%0,%1}, {%4}, {%8}, {%0,%1};\n"
      "mma.sync.aligned.m8n8k16.row.col.s32.s8.s8.s32 {%2,%3}, {%5}, {%8}, {%2,%3};\n"
      "mma.sync.aligned.m8n8k16.row.col.s32.s8.s8.s32 {%0,%1}, {%6}, {%9}, {%0,%1};\n"
      "mma.sync.aligned.m8n8k16.row.col.s32.s8.s8.s32 {%2,%3}, {%7}, {%9}, {%2,%3};\n"
      : "+&r"(sums[0]), "+&r"(sums[1]), "+&r"(sums[2]), "+&r"(sums[3])
      : "r"(a.x), "r"(a.y), "r"(a.z), "r"(a.w), "r"(b0), "r"(b1));
#endif
}

// Sixteen bytes from global to shared memory, complete for the thread that asked after wait_for_copies.
__device__ __forceinline__ void copy_async(void* shared, const void* global) {
#ifdef RVQ_EMULATE_CUDA
  emulation::copy_async(shared, global);
#elif __CUDA_ARCH__ >= 800
  uint32_t address = static_cast<uint32_t>(__cvta_generic_to_shared(shared));
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16;\n" ::"r"(address), "l"(global) : "memory");
#else
  *static_cast<uint4*>(shared) = *static_cast<const uint4*>(global);
#endif
}

// Copies asked for since the last call are one group.
__device__ __forceinline__ void end_copy_group() {
#ifdef RVQ_EMULATE_CUDA
  emulation::end_copy_group();
#elif __CUDA_ARCH__ >= 800
  asm volatile("cp.async.commit_group;\n" ::: "memory");
#endif
}

// All but the latest kGroups groups are complete.
template <int kGroups>
__device__ __forceinline__ void wait_for_copies() {
#ifdef RVQ_EMULATE_CUDA
  emulation::wait_for_copies(kGroups);
#elif __CUDA_ARCH__ >= 800
  asm volatile("cp.async.wait_group %0;\n" ::"n"(kGroups) : "memory");
#endif
}

}  // namespace rvq::cuda
