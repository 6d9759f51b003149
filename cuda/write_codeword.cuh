// A codeword that learning has moved, written by a warp.

#pragma once

#include <cuda_runtime.h>

#include <cstddef>

#include "canonical.cuh"

namespace rvq::cuda {

// codeword[i] = value(i). With the cosine metric a codeword needs a direction: where all values are zero it stays as it
// is.
template <typename Value>
__device__ __forceinline__ void write_codeword(float* codeword, size_t dim, bool cosine, const Value& value) {
  size_t lane = threadIdx.x % 32;
  if (cosine) {
    bool has_direction = false;
    for (size_t i = lane; i < dim; i += 32) has_direction |= value(i) != 0;
    if (!__any_sync(kAll, has_direction)) return;
  }
  for (size_t i = lane; i < dim; i += 32) codeword[i] = value(i);
}

}  // namespace rvq::cuda
