// Eight neighbouring threads of a warp that have a codeword of a stage: what the kernels of packing share.

#pragma once

#include <cuda_runtime.h>

#include <cstddef>
#include <cstdint>

#include "canonical.cuh"
#include "launch.cuh"
#include "pack_codebooks.h"

namespace rvq::cuda {

constexpr unsigned kPackThreads = 256;
constexpr unsigned kPackTeams = kPackThreads / kSumLanes;

// Blocks in x have kPackTeams codewords each of stage blockIdx.y.
struct CodewordTeam {
  const uint32_t k = blockIdx.x * kPackTeams + threadIdx.x / kSumLanes;
  const int lane = static_cast<int>(threadIdx.x) % kSumLanes;
  const unsigned mask = 0xffu << (threadIdx.x % 32 / kSumLanes * kSumLanes);

  // Of numbers whose sum does not depend on an order, or need not be the same everywhere; for all of the team.
  template <typename T>
  __device__ __forceinline__ T sum(T own) const {
    for (int step = kSumLanes / 2; step >= 1; step /= 2) own += __shfl_xor_sync(mask, own, step);
    return own;
  }
  __device__ __forceinline__ float max(float own) const {
    for (int step = kSumLanes / 2; step >= 1; step /= 2) own = fmaxf(own, __shfl_xor_sync(mask, own, step));
    return own;
  }
};

// A block for each kPackTeams codewords of each stage.
inline Launch codeword_teams(const PackRequest& request, CUstream_st* stream) {
  dim3 blocks = blocks_for(request.most_codewords, kPackTeams);
  return {dim3(blocks.x, static_cast<unsigned>(request.num_stages)), dim3(kPackThreads), 0, stream};
}

// A block for each chunk of codewords of each stage, of threads along its columns.
inline Launch chunks_of_columns(const PackRequest& request, CUstream_st* stream) {
  unsigned along = threads_along(static_cast<size_t>(request.dim));
  dim3 blocks(most_chunks(static_cast<uint32_t>(request.most_codewords)), static_cast<unsigned>(request.num_stages));
  return {blocks, dim3(along, kPackThreads / along), 0, stream};
}

}  // namespace rvq::cuda
