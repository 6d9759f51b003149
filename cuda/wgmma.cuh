// Hopper's products of a warpgroup, with the operands of codewords in shared memory and those of rows in registers or
// there too, and copies by the bulk engine. Only in code for sm_90a.

#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#ifdef RVQ_EMULATE_CUDA
#include <warpgroup.h>
#endif

// Where all of this is.
#if defined(__CUDA_ARCH_FEAT_SM90_ALL) || defined(RVQ_EMULATE_CUDA)
#define RVQ_WARPGROUP 1
#endif

namespace rvq::cuda {

#ifdef RVQ_EMULATE_CUDA

using namespace emulation::warpgroup;

#elif defined(RVQ_WARPGROUP)

// Whether it works; only the emulated device can be told to be without.
__device__ __forceinline__ bool has_warpgroups() { return true; }

__device__ __forceinline__ uint32_t shared_address(const void* shared) {
  return static_cast<uint32_t>(__cvta_generic_to_shared(shared));
}

__device__ __forceinline__ void warpgroup_arrive() { asm volatile("wgmma.fence.sync.aligned;\n" ::: "memory"); }
__device__ __forceinline__ void warpgroup_commit() { asm volatile("wgmma.commit_group.sync.aligned;\n" ::: "memory"); }
template <int kPending>
__device__ __forceinline__ void warpgroup_wait() {
  asm volatile("wgmma.wait_group.sync.aligned %0;\n" ::"n"(kPending) : "memory");
}

#define RVQ_SUMS4(s, n) "+f"(s[n][0]), "+f"(s[n][1]), "+f"(s[n][2]), "+f"(s[n][3])

// sums = (accumulate ? sums : 0) + a · b for 64 rows and 64 or 128 codewords; sums[n] of group n as in multiply_add.
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

__device__ __forceinline__ void warpgroup_multiply(float (&s)[16][4], const uint4& a, uint64_t b, bool accumulate) {
  asm volatile(
      "{\n.reg .pred p;\nsetp.ne.b32 p, %69, 0;\n"
      "wgmma.mma_async.sync.aligned.m64n128k16.f32.f16.f16 "
      "{%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15,%16,%17,%18,%19,%20,%21,%22,%23,"
      "%24,%25,%26,%27,%28,%29,%30,%31,%32,%33,%34,%35,%36,%37,%38,%39,%40,%41,%42,%43,%44,%45,%46,%47,"
      "%48,%49,%50,%51,%52,%53,%54,%55,%56,%57,%58,%59,%60,%61,%62,%63}, "
      "{%64,%65,%66,%67}, %68, p, 1, 1, 0;\n}\n"
      : RVQ_SUMS4(s, 0), RVQ_SUMS4(s, 1), RVQ_SUMS4(s, 2), RVQ_SUMS4(s, 3), RVQ_SUMS4(s, 4), RVQ_SUMS4(s, 5),
        RVQ_SUMS4(s, 6), RVQ_SUMS4(s, 7), RVQ_SUMS4(s, 8), RVQ_SUMS4(s, 9), RVQ_SUMS4(s, 10), RVQ_SUMS4(s, 11),
        RVQ_SUMS4(s, 12), RVQ_SUMS4(s, 13), RVQ_SUMS4(s, 14), RVQ_SUMS4(s, 15)
      : "r"(a.x), "r"(a.y), "r"(a.z), "r"(a.w), "l"(b), "r"(static_cast<int>(accumulate)));
}

// The same with the operands of rows in shared memory too, by their descriptor: sums += a · b.
__device__ __forceinline__ void warpgroup_multiply_add(float (&s)[16][4], uint64_t a, uint64_t b) {
  asm volatile(
      "wgmma.mma_async.sync.aligned.m64n128k16.f32.f16.f16 "
      "{%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15,%16,%17,%18,%19,%20,%21,%22,%23,"
      "%24,%25,%26,%27,%28,%29,%30,%31,%32,%33,%34,%35,%36,%37,%38,%39,%40,%41,%42,%43,%44,%45,%46,%47,"
      "%48,%49,%50,%51,%52,%53,%54,%55,%56,%57,%58,%59,%60,%61,%62,%63}, "
      "%64, %65, 1, 1, 1, 0, 0;\n"
      : RVQ_SUMS4(s, 0), RVQ_SUMS4(s, 1), RVQ_SUMS4(s, 2), RVQ_SUMS4(s, 3), RVQ_SUMS4(s, 4), RVQ_SUMS4(s, 5),
        RVQ_SUMS4(s, 6), RVQ_SUMS4(s, 7), RVQ_SUMS4(s, 8), RVQ_SUMS4(s, 9), RVQ_SUMS4(s, 10), RVQ_SUMS4(s, 11),
        RVQ_SUMS4(s, 12), RVQ_SUMS4(s, 13), RVQ_SUMS4(s, 14), RVQ_SUMS4(s, 15)
      : "l"(a), "l"(b));
}

// Keeps the compiler from moving what it does with sums from one side to the other.
template <int kGroups>
__device__ __forceinline__ void hold(float (&s)[kGroups][4]) {
#pragma unroll
  for (int n = 0; n < kGroups; n++) asm volatile("" : RVQ_SUMS4(s, n)::"memory");
}

#undef RVQ_SUMS4

// Barriers by their addresses in shared memory.
__device__ __forceinline__ void init_barrier(uint32_t barrier, int arrivals) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;\n" ::"r"(barrier), "r"(arrivals) : "memory");
}

__device__ __forceinline__ void arrive(uint32_t barrier) {
  asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];\n" ::"r"(barrier) : "memory");
}

__device__ __forceinline__ bool has_completed(uint32_t barrier, uint32_t phase) {
  int complete;
  asm volatile("{\n.reg .pred p;\nmbarrier.test_wait.parity.shared::cta.b64 p, [%1], %2;\nselp.b32 %0, 1, 0, p;\n}\n"
               : "=r"(complete)
               : "r"(barrier), "r"(phase)
               : "memory");
  return complete != 0;
}

__device__ __forceinline__ void wait_for_phase(uint32_t barrier, uint32_t phase) {
  asm volatile(
      "{\n.reg .pred p;\nWAIT:\nmbarrier.try_wait.parity.shared::cta.b64 p, [%0], %1;\n@p bra DONE;\nbra "
      "WAIT;\nDONE:\n}\n" ::"r"(barrier),
      "r"(phase)
      : "memory");
}

// Copies to shared memory; the barrier's phase completes when all bytes are there. By one thread.
__device__ __forceinline__ void copy_bulk(uint32_t shared, const void* global, uint32_t bytes, uint32_t barrier) {
  asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;\n" ::"r"(barrier), "r"(bytes) : "memory");
  asm volatile(
      "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];\n" ::"r"(shared),
      "l"(global), "r"(bytes), "r"(barrier)
      : "memory");
}

// Before copies by the bulk engine to memory that has been read or written otherwise, and after such writes of
// operands.
__device__ __forceinline__ void fence_async_proxy() { asm volatile("fence.proxy.async.shared::cta;\n" ::: "memory"); }

// *place = value if it is `expected`; returns what it was.
__device__ __forceinline__ uint32_t compare_and_swap(uint32_t place, uint32_t expected, uint32_t value) {
  uint32_t before = 0;
  asm volatile("atom.shared::cta.cas.b32 %0, [%1], %2, %3;\n"
               : "=r"(before)
               : "r"(place), "r"(expected), "r"(value)
               : "memory");
  return before;
}

#endif

// Rows of a warpgroup in shared memory, packed as codewords are (stage.cuh): bytes of a step of sixteen dimensions, and
// of a half of its slots.
constexpr int kRowStepBytes = 64 * 32;
constexpr int kRowHalfBytes = kRowStepBytes / 2;

// A thread's part of a step; `warp` of the warpgroup.
__device__ __forceinline__ void store_row_step(unsigned char* step, int warp, const uint4& operand) {
  constexpr int kHalfWords = kRowHalfBytes / 4;
  uint32_t* upper = reinterpret_cast<uint32_t*>(step) + warp * 64 + threadIdx.x % 32;
  upper[0] = operand.x;
  upper[32] = operand.y;
  upper[kHalfWords] = operand.z;
  upper[kHalfWords + 32] = operand.w;
}

#ifdef RVQ_WARPGROUP

// The descriptor of codewords packed as stage.cuh says, or of rows alike, at an address in shared memory: `half_bytes`
// from one half of a step's slots to the other.
__device__ __forceinline__ uint64_t operand_descriptor(uint32_t shared, int half_bytes) {
  uint64_t address = shared;
  constexpr uint64_t kGroupBytes = 128;
  return (address & 0x3ffff) >> 4 | static_cast<uint64_t>(half_bytes) >> 4 << 16 | kGroupBytes >> 4 << 32;
}

#endif

}  // namespace rvq::cuda
