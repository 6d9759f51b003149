// Streams pieces of global memory, which lie one after the other, through a ring in shared memory, by the bulk copy
// engine. Warps take and release pieces on their own: none waits for another that is not a whole ring behind. The last
// to release a place of the ring has it filled again. Only for sm_90a.

#pragma once

#include <cuda_runtime.h>

#include "wgmma.cuh"

namespace rvq::cuda {

#ifdef RVQ_WARPGROUP

template <int kBytes, int kDepth, int kWarps>
class BulkStream {
  static_assert(kBytes % 16 == 0);

 public:
  struct Shared {
    alignas(128) unsigned char pieces[kDepth][kBytes];
    uint64_t full[kDepth];
    int released[kDepth];  // warps that have given up what is there
  };

  // By all threads of the block. Every warp will take `passes` · `units` pieces, again from the first after the last.
  __device__ BulkStream(const unsigned char* packed, int units, size_t passes, Shared& shared)
      : packed_(packed), units_(units), left_(passes * units), shared_(shared) {
    if (threadIdx.x == 0) {
      for (int i = 0; i < kDepth; i++) {
        init_barrier(&shared.full[i], 1);
        shared.released[i] = 0;
      }
      asm volatile("fence.proxy.async.shared::cta;\n" ::: "memory");
    }
    __syncthreads();
    if (threadIdx.x != 0) return;
    for (int i = 0; i < kDepth && static_cast<size_t>(i) < left_; i++) fill(i, i % units);
  }

  // By a warp: waits for the next piece.
  __device__ __forceinline__ const unsigned char* take() {
    wait_for_phase(&shared_.full[slot_], phase_);
    __syncwarp();
    return shared_.pieces[slot_];
  }

  // By a warp: gives up the piece that it took last.
  __device__ __forceinline__ void release() {
    __syncwarp();
    if (threadIdx.x % 32 == 0) {
      __threadfence_block();
      if (atomicAdd_block(&shared_.released[slot_], 1) == kWarps - 1) refill();
    }
    left_--;
    unit_ = unit_ + 1 == units_ ? 0 : unit_ + 1;
    slot_++;
    if (slot_ < kDepth) return;
    slot_ = 0;
    phase_ ^= 1;
  }

 private:
  __device__ void refill() {
    shared_.released[slot_] = 0;
    if (left_ <= kDepth) return;
    __threadfence_block();
    asm volatile("fence.proxy.async.shared::cta;\n" ::: "memory");
    fill(slot_, (unit_ + kDepth) % units_);
  }

  __device__ void fill(int slot, int unit) {
    copy_bulk(shared_.pieces[slot], packed_ + static_cast<size_t>(unit) * kBytes, kBytes, &shared_.full[slot]);
  }

  const unsigned char* packed_;
  int units_;
  size_t left_;  // pieces that this warp has not given up
  Shared& shared_;
  int unit_ = 0;
  int slot_ = 0;
  uint32_t phase_ = 0;
};

#endif

}  // namespace rvq::cuda
