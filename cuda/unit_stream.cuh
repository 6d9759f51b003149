// Streams pieces of global memory, which lie one after the other, through shared memory: two or three ahead of the
// block's threads, again from the first after the last.

#pragma once

#include <cuda_runtime.h>

#include "mma.cuh"

namespace rvq::cuda {

template <int kBytes, int kThreads>
class UnitStream {
  static_assert(kBytes % 16 == 0);

 public:
  // shared[depth][kBytes]; depth 2 or 3. next() will be called `passes` · `units` times.
  __device__ UnitStream(const unsigned char* packed, int units, size_t passes, unsigned char* shared, int depth)
      : packed_(packed), units_(units), left_(passes * units), shared_(shared), depth_(depth) {
    for (int i = 0; i + 1 < depth; i++) ask();
  }

  // By all threads of the block together; what the call before gave is then given up.
  __device__ const unsigned char* next() {
    if (depth_ == 3) {
      wait_for_copies<1>();
    } else {
      wait_for_copies<0>();
    }
    __syncthreads();
    const unsigned char* unit = shared_ + slot_ * kBytes;
    slot_ = slot_ + 1 == depth_ ? 0 : slot_ + 1;
    ask();
    return unit;
  }

 private:
  __device__ void ask() {
    if (left_ > 0) {
      const unsigned char* from = packed_ + static_cast<size_t>(unit_) * kBytes;
      unsigned char* to = shared_ + asked_slot_ * kBytes;
#pragma unroll
      for (int offset = 0; offset < kBytes; offset += kThreads * 16) {
        int place = offset + static_cast<int>(threadIdx.x) * 16;
        if (offset + kThreads * 16 <= kBytes || place < kBytes) copy_async(to + place, from + place);
      }
      unit_ = unit_ + 1 == units_ ? 0 : unit_ + 1;
      asked_slot_ = asked_slot_ + 1 == depth_ ? 0 : asked_slot_ + 1;
      left_--;
    }
    end_copy_group();
  }

  const unsigned char* packed_;
  int units_;
  size_t left_;
  unsigned char* shared_;
  int depth_;
  int unit_ = 0;
  int slot_ = 0;
  int asked_slot_ = 0;
};

}  // namespace rvq::cuda
