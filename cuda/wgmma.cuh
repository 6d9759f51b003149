// Hopper's products of a warpgroup, with the operands of rows in registers and those of codewords in shared memory, and
// copies by the bulk engine. Only in code for sm_90a.

#pragma once

#include <cuda_runtime.h>

#include <cstdint>

namespace rvq::cuda {

#ifdef __CUDA_ARCH_FEAT_SM90_ALL
#define RVQ_WARPGROUP 1

// The descriptor of codewords packed as stage.cuh says: `step_bytes` from one half of a step's slots to the other.
__device__ __forceinline__ uint64_t operand_descriptor(const void* shared, int half_bytes) {
  // The same in all threads: the compiler then keeps it where the instruction wants it.
  uint64_t address = __shfl_sync(0xffffffff, static_cast<uint32_t>(__cvta_generic_to_shared(shared)), 0);
  constexpr uint64_t kGroupBytes = 128;
  return (address & 0x3ffff) >> 4 | static_cast<uint64_t>(half_bytes) >> 4 << 16 | kGroupBytes >> 4 << 32;
}

__device__ __forceinline__ void warpgroup_arrive() { asm volatile("wgmma.fence.sync.aligned;\n" ::: "memory"); }
__device__ __forceinline__ void warpgroup_commit() { asm volatile("wgmma.commit_group.sync.aligned;\n" ::: "memory"); }
template <int kPending>
__device__ __forceinline__ void warpgroup_wait() {
  asm volatile("wgmma.wait_group.sync.aligned %0;\n" ::"n"(kPending) : "memory");
}

#define RVQ_SUMS4(s, n) "+f"(s[n][0]), "+f"(s[n][1]), "+f"(s[n][2]), "+f"(s[n][3])

// sums = (accumulate ? sums : 0) + a · b for 64 rows and 32 or 64 codewords; sums[n] of group n as in multiply_add.
__device__ __forceinline__ void warpgroup_multiply(float (&s)[4][4], const uint4& a, uint64_t b, bool accumulate) {
  asm volatile(
      "{\n.reg .pred p;\nsetp.ne.b32 p, %21, 0;\n"
      "wgmma.mma_async.sync.aligned.m64n32k16.f32.f16.f16 "
      "{%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15}, "
      "{%16,%17,%18,%19}, %20, p, 1, 1, 0;\n}\n"
      : RVQ_SUMS4(s, 0), RVQ_SUMS4(s, 1), RVQ_SUMS4(s, 2), RVQ_SUMS4(s, 3)
      : "r"(a.x), "r"(a.y), "r"(a.z), "r"(a.w), "l"(b), "r"(static_cast<int>(accumulate)));
}

__device__ __forceinline__ void warpgroup_multiply(float (&s)[8][4], const uint4& a, uint64_t b, bool accumulate) {
  asm volatile(
      "{\n.reg .pred p;\nsetp.ne.b32 p, %37, 0;\n"
      "wgmma.mma_async.sync.aligned.m64n64k16.f32.f16.f16 "
      "{%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15,%16,%17,%18,%19,%20,%21,%22,%23,%24,%25,%26,"
      "%27,%28,%29,%30,%31}, "
      "{%32,%33,%34,%35}, %36, p, 1, 1, 0;\n}\n"
      : RVQ_SUMS4(s, 0), RVQ_SUMS4(s, 1), RVQ_SUMS4(s, 2), RVQ_SUMS4(s, 3), RVQ_SUMS4(s, 4), RVQ_SUMS4(s, 5),
        RVQ_SUMS4(s, 6), RVQ_SUMS4(s, 7)
      : "r"(a.x), "r"(a.y), "r"(a.z), "r"(a.w), "l"(b), "r"(static_cast<int>(accumulate)));
}

// Keeps the compiler from moving what it does with sums from one side to the other.
template <int kGroups>
__device__ __forceinline__ void hold(float (&s)[kGroups][4]) {
#pragma unroll
  for (int n = 0; n < kGroups; n++) asm volatile("" : RVQ_SUMS4(s, n)::"memory");
}

#undef RVQ_SUMS4

__device__ __forceinline__ uint32_t shared_address(const void* shared) {
  return static_cast<uint32_t>(__cvta_generic_to_shared(shared));
}

__device__ __forceinline__ void init_barrier(uint64_t* barrier, int arrivals) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;\n" ::"r"(shared_address(barrier)), "r"(arrivals) : "memory");
}

__device__ __forceinline__ void arrive(uint64_t* barrier) {
  asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];\n" ::"r"(shared_address(barrier)) : "memory");
}

__device__ __forceinline__ void wait_for_phase(uint64_t* barrier, uint32_t phase) {
  asm volatile(
      "{\n.reg .pred p;\nWAIT:\nmbarrier.try_wait.parity.shared::cta.b64 p, [%0], %1;\n@p bra DONE;\nbra "
      "WAIT;\nDONE:\n}\n" ::"r"(shared_address(barrier)),
      "r"(phase)
      : "memory");
}

// Copies to shared memory; the barrier's phase completes when all bytes are there. By one thread.
__device__ __forceinline__ void copy_bulk(void* shared, const void* global, uint32_t bytes, uint64_t* barrier) {
  asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;\n" ::"r"(shared_address(barrier)), "r"(bytes)
               : "memory");
  asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];\n" ::"r"(
                   shared_address(shared)),
               "l"(global), "r"(bytes), "r"(shared_address(barrier))
               : "memory");
}

#endif

}  // namespace rvq::cuda
