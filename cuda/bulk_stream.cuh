// Streams pieces of global memory, which lie one after the other, through a ring in shared memory, by the bulk copy engine.
// Warps take and release pieces on their own: none waits for another that is a few pieces behind. Only for sm_90a.

#pragma once

#include <cuda_runtime.h>

#include "wgmma.cuh"

namespace rvq::cuda {

#ifdef RVQ_WARPGROUP

template <int kBytes, int kDepth, int kWarps>
class BulkStream {
  static_assert(kBytes % 16 == 0);
  // Pieces asked for beyond the one that thread 0 takes. The others of the ring are those that slower warps still read.
  static constexpr int kLead = kDepth / 2;
  static_assert(kDepth > kLead);

 public:
  struct Shared {
    alignas(128) unsigned char pieces[kDepth][kBytes];
    uint64_t full[kDepth];
    uint64_t empty[kDepth];
    // Of thread 0 alone, which has no registers to spare for it.
    size_t left;
    int unit;
    int slot;
    uint32_t phase;
    bool filled;
  };

  // By all threads of the block. Every warp will take `passes` · `units` pieces, again from the first after the last.
  __device__ BulkStream(const unsigned char* packed, int units, size_t passes, Shared& shared)
      : packed_(packed), units_(units), shared_(shared) {
    if (threadIdx.x == 0) {
      for (int i = 0; i < kDepth; i++) {
        init_barrier(&shared.full[i], 1);
        init_barrier(&shared.empty[i], kWarps);
      }
      asm volatile("fence.proxy.async.shared::cta;\n" ::: "memory");
      shared.left = passes * units;
      shared.unit = shared.slot = 0;
      shared.phase = 0;
      shared.filled = false;
    }
    __syncthreads();
    if (threadIdx.x == 0) {
      for (int i = 0; i < kLead; i++) ask();
    }
  }

  // By a warp: waits for the next piece.
  __device__ const unsigned char* take() {
    if (threadIdx.x == 0) ask();
    wait_for_phase(&shared_.full[slot_], phase_);
    __syncwarp();
    return shared_.pieces[slot_];
  }

  // By a warp: gives up the piece that it took last.
  __device__ void release() {
    __syncwarp();
    if (threadIdx.x % 32 == 0) arrive(&shared_.empty[slot_]);
    slot_++;
    if (slot_ < kDepth) return;
    slot_ = 0;
    phase_ ^= 1;
  }

 private:
  __device__ void ask() {
    if (shared_.left == 0) return;
    shared_.left--;
    int slot = shared_.slot;
    // The first round finds the ring empty; later all warps must have released what was there.
    if (shared_.filled) wait_for_phase(&shared_.empty[slot], shared_.phase ^ 1);
    int unit = shared_.unit;
    copy_bulk(shared_.pieces[slot], packed_ + static_cast<size_t>(unit) * kBytes, kBytes, &shared_.full[slot]);
    shared_.unit = unit + 1 == units_ ? 0 : unit + 1;
    shared_.slot = slot + 1 == kDepth ? 0 : slot + 1;
    if (shared_.slot != 0) return;
    shared_.phase ^= 1;
    shared_.filled = true;
  }

  const unsigned char* packed_;
  int units_;
  Shared& shared_;
  int slot_ = 0;
  uint32_t phase_ = 0;
};

#endif

}  // namespace rvq::cuda
