// Streams pieces of global memory, which lie one after the other, through a ring in shared memory, by the bulk copy
// engine. Warps take and release pieces on their own: none waits for another that is not a whole ring behind. One that
// sees that all have released a place of the ring has it filled again. Only for sm_90a.

#pragma once

#include <cuda_runtime.h>

#include <cstddef>

#include "opaque.cuh"
#include "wgmma.cuh"

namespace rvq::cuda {

template <int kBytes, int kDepth>
struct BulkRing {
  static_assert(kBytes % 128 == 0);
  uint64_t full[kDepth];
  uint64_t released[kDepth];
  uint32_t refilled[kDepth];                          // the phase whose pieces are there or on their way
  alignas(128) unsigned char pieces[kDepth][kBytes];  // last: there need not be room for all
};

#ifdef RVQ_WARPGROUP

// A ring of kMostDepth pieces, or, with kWhole = false, of fewer.
template <int kBytes, int kMostDepth, bool kWhole = true>
class BulkStream {
 public:
  using Ring = BulkRing<kBytes, kMostDepth>;

  // By all threads of the block. Every warp will take `passes` · `units` pieces, again from the first after the last.
  __device__ BulkStream(const unsigned char* packed, int units, size_t passes, Ring& ring, int depth = kMostDepth)
      : packed_(packed),
        units_(units),
        ring_(shared_address(ring.pieces)),
        depth_(depth),
        next_(0),
        passes_left_(static_cast<uint32_t>(passes)) {
    // Once: else the address is worked out for every piece.
    make_opaque(ring_);
    if (threadIdx.x == 0) {
#pragma unroll 1
      for (int i = 0; i < this->depth(); i++) {
        init_barrier(full(i), 1);
        init_barrier(released(i), static_cast<int>(blockDim.x) / 32);
        ring.refilled[i] = 0;
      }
      fence_async_proxy();
    }
    __syncthreads();
#pragma unroll 1
    for (int i = 0; i < this->depth(); i++) {
      if (threadIdx.x == 0 && passes_left_ > 0) fill(i);
      advance_next();
    }
  }

  // By a warp: waits for the next piece, and gives its address in shared memory.
  __device__ __forceinline__ uint32_t take() {
    wait_for_phase(full(slot_), phase_);
    return ring_ + slot_ * kBytes;
  }

  // The piece after that, before the one is given up.
  __device__ __forceinline__ uint32_t take_following() {
    bool wraps = slot_ + 1 == depth();
    int slot = wraps ? 0 : slot_ + 1;
    wait_for_phase(full(slot), wraps ? phase_ ^ 1 : phase_);
    return ring_ + slot * kBytes;
  }

  // By a warp: gives up the piece that it took last; go_on() follows, after other work while this is under way.
  __device__ __forceinline__ void give_up() {
    if (threadIdx.x % 32 == 0) arrive(released(slot_));
  }

  __device__ __forceinline__ void go_on() {
    if (threadIdx.x % 32 == 0 && has_completed(released(slot_), phase_)) refill();
    advance_next();
    if (++slot_ < depth()) return;
    slot_ = 0;
    phase_ ^= 1;
  }

 private:
  __device__ __forceinline__ int depth() const { return kWhole ? kMostDepth : depth_; }

  // By threads that have seen that all have given up the place: the first of them has it filled.
  __device__ __forceinline__ void refill() {
    uint32_t place = before_pieces(offsetof(Ring, refilled)) + slot_ * 4;
    if (compare_and_swap(place, phase_, phase_ ^ 1) != phase_ || passes_left_ == 0) return;
    fence_async_proxy();
    fill(slot_);
  }

  __device__ __forceinline__ void fill(int slot) {
    copy_bulk(ring_ + slot * kBytes, packed_ + static_cast<size_t>(next_) * kBytes, kBytes, full(slot));
  }

  __device__ __forceinline__ void advance_next() {
    if (++next_ < units_) return;
    next_ = 0;
    if (passes_left_ > 0) passes_left_--;
  }

  __device__ __forceinline__ uint32_t full(int slot) const { return before_pieces(offsetof(Ring, full)) + slot * 8; }
  __device__ __forceinline__ uint32_t released(int slot) const {
    return before_pieces(offsetof(Ring, released)) + slot * 8;
  }
  __device__ __forceinline__ uint32_t before_pieces(size_t offset) const {
    return ring_ - static_cast<uint32_t>(offsetof(Ring, pieces) - offset);
  }

  const unsigned char* packed_;
  int units_;
  uint32_t ring_;  // its first piece
  int depth_;
  // The piece that comes where the next to be taken is now, and the passes left with its own.
  int next_;
  uint32_t passes_left_;
  int slot_ = 0;
  uint32_t phase_ = 0;
};

#endif

}  // namespace rvq::cuda
