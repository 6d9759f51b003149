// From ranked scores to codes: certifies the nearest codeword, or compares those that the bound leaves open.

#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "row_operands.cuh"
#include "row_search.cuh"
#include "stage.cuh"

namespace rvq::cuda {

#ifdef RVQ_COUNT
__device__ unsigned long long compared_rows;
__device__ unsigned long long searched_places;
#endif

// What a thread has kept of the scores of one row: the upper ends of the best two of the codewords 8j + 2·column and of
// 8j + 2·column + 1, over all j, with j in the lowest bits.
struct Kept {
  float best[2];
  float second[2];
};

// What is known of the nearest codeword of a row: bit 4·parity + column of `candidates` stands for the best of the place
// of that thread and parity, of `hidden` for a place that may have hidden a third one.
struct Verdict {
  unsigned candidates;
  unsigned hidden;
  bool certain;
};

__device__ __forceinline__ uint32_t codeword_of(const StageView& view, float tagged, int place_column, int parity) {
  return (__float_as_uint(tagged) & view.index_mask) * 8 + static_cast<uint32_t>(place_column * 2 + parity);
}

// Of eight rows of the warp, the thread's being fragment_row(); bounds[parity] are those of its best codewords.
__device__ __forceinline__ Verdict judge(const StageView& view, int dim, const Kept& kept, const float2 (&bounds)[2],
                                         const RowState& state) {
  // How far the tag may have moved a score.
  float tag_share = static_cast<float>(view.index_mask + 4) * 0x1p-23f;
  auto slack = [&](float tagged) { return fabsf(tagged) * tag_share + 1e-30f; };

  // The largest lower end of the eight places that have kept a best: no lower upper end can be the nearest.
  float lower = -INFINITY;
#pragma unroll
  for (int parity = 0; parity < 2; parity++) {
    float tagged = kept.best[parity];
    float width = state.radius * bounds[parity].y - bounds[parity].x * static_cast<float>(kNormRounding * 1.01);
    lower = fmaxf(lower, tagged - slack(tagged) - 2 * width);
  }
  lower = fmaxf(lower, __shfl_xor_sync(kAll, lower, 1));
  lower = fmaxf(lower, __shfl_xor_sync(kAll, lower, 2));
  float reach = state.radius + view.largest_norm;
  lower -= order_rounding(dim) * reach * reach + fabsf(lower) * 0x1p-22f;

  Verdict verdict{0, 0, false};
  int shift = static_cast<int>(threadIdx.x) & 28;
#pragma unroll
  for (int parity = 0; parity < 2; parity++) {
    float best = kept.best[parity];
    float second = kept.second[parity];
    verdict.candidates |= (__ballot_sync(kAll, best + slack(best) >= lower) >> shift & 15) << (4 * parity);
    verdict.hidden |= (__ballot_sync(kAll, second + slack(second) >= lower) >> shift & 15) << (4 * parity);
  }
  if (state.unknown) verdict.candidates = verdict.hidden = 255;
  verdict.certain = state.not_finite || (verdict.hidden == 0 && __popc(verdict.candidates) == 1);
  return verdict;
}

// codes[r] of those of the eight rows, from `first_row` on, that are open. By the whole warp, one row after the other.
template <Layout kLayout>
__device__ __forceinline__ void compare(const StageView& view, int dim, const float* weights,
                                        const float (&best)[2], const Verdict& verdict, bool exists, const float* first_row, uint32_t* codes) {
  unsigned open = __ballot_sync(kAll, exists && !verdict.certain && fragment_column() == 0);
  int lane = static_cast<int>(threadIdx.x) % 32;
#pragma unroll 1
  while (open != 0) {
    int leader = __ffs(static_cast<int>(open)) - 1;
    open &= open - 1;
    unsigned candidates = __shfl_sync(kAll, verdict.candidates, leader);
    unsigned hidden = __shfl_sync(kAll, verdict.hidden, leader);
#ifdef RVQ_COUNT
    if (lane == 0) {
      atomicAdd(&compared_rows, 1ull);
      atomicAdd(&searched_places, static_cast<unsigned long long>(__popc(hidden)));
    }
#endif
    RowSearch<kLayout> search{first_row + static_cast<size_t>(leader / 4) * dim, weights, dim, &view};
    encoding::Nearest nearest;
    // The places' bests, in the first eight threads of the warp.
    float best0 = __shfl_sync(kAll, best[0], leader + (lane & 3));
    float best1 = __shfl_sync(kAll, best[1], leader + (lane & 3));
    uint32_t k = codeword_of(view, lane & 4 ? best1 : best0, lane & 3, lane >> 2 & 1);
    search.drain(candidates & ~hidden, k, nearest);
    if (hidden != 0) search.consider_places(hidden, nearest);
    uint32_t code = nearest.of_warp();
    if (lane == 0) codes[leader / 4] = code;
  }
}

}  // namespace rvq::cuda
