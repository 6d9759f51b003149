// From ranked scores to codes: certifies the nearest codeword, or compares those that the bound leaves open.

#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "row_operands.cuh"
#include "row_search.cuh"
#include "stage.cuh"

namespace rvq::cuda {

// What a thread has kept of the scores of one row: the upper ends of the best two of the codewords 8j + 2·column and of
// 8j + 2·column + 1, over all j, with j in the lowest bits.
struct Kept {
  float best[2];
  float second[2];
};

// What is known of the nearest codeword of a row: bit 4·parity + column of `candidates` stands for the best of the
// place of that thread and parity, of `hidden` for a place that may have hidden a third one.
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

// codes[r] of those of the warp's sixteen rows, from `first_row` on, that are open. By the whole warp: four candidates
// at a time, of whichever rows, then the rows with places that must be looked through.
template <Layout kLayout>
__device__ __forceinline__ void compare(const StageView& view, int dim, const float* weights, const Kept (&kept)[2],
                                        const Verdict (&verdicts)[2], const bool (&exists)[2], const float* first_row,
                                        uint32_t* codes) {
  int lane = static_cast<int>(threadIdx.x) % 32;
  int team = lane / kSumLanes;
  bool open[2];
  unsigned open_rows = 0;
#pragma unroll
  for (int half = 0; half < 2; half++) {
    open[half] = exists[half] && !verdicts[half].certain;
    // One bit a row: of the first of its four threads.
    unsigned rows = __ballot_sync(kAll, open[half] && fragment_column() == 0);
#pragma unroll
    for (int r = 0; r < 8; r++) open_rows |= (rows >> (4 * r) & 1) << (8 * half + r);
  }
  if (open_rows == 0) return;

  RowSearch<kLayout> search{weights, dim, &view};
  // Of row `lane`, for the first sixteen threads.
  Nearest nearest;
#pragma unroll 1
  for (int kind = 0; kind < 4; kind++) {
    int half = kind / 2;
    int parity = kind % 2;
    float tagged = half == 0 ? (parity == 0 ? kept[0].best[0] : kept[0].best[1])
                             : (parity == 0 ? kept[1].best[0] : kept[1].best[1]);
    Verdict verdict = half == 0 ? verdicts[0] : verdicts[1];
    bool wanted = (half == 0 ? open[0] : open[1]) &&
                  ((verdict.candidates & ~verdict.hidden) >> (4 * parity + fragment_column()) & 1) != 0;
    uint32_t k = codeword_of(view, tagged, fragment_column(), parity);
    unsigned threads = __ballot_sync(kAll, wanted);
#pragma unroll 1
    while (threads != 0) {
      int chosen = take_four(threads, team);
      uint32_t codeword = __shfl_sync(kAll, k, max(chosen, 0));
      // Where a thread is not wanted its codeword need not exist.
      if (chosen < 0) codeword = 0;
      int row = half * 8 + max(chosen, 0) / 4;
      double distance = search.distance(first_row + static_cast<size_t>(row) * dim, codeword);
#pragma unroll
      for (int t = 0; t < 4; t++) {
        double other = __shfl_sync(kAll, distance, t * kSumLanes);
        uint32_t other_k = __shfl_sync(kAll, codeword, t * kSumLanes);
        int other_row = __shfl_sync(kAll, chosen < 0 ? -1 : row, t * kSumLanes);
        if (lane == other_row) nearest.take(other, other_k);
      }
    }
  }

#pragma unroll 1
  for (unsigned rows = open_rows; rows != 0; rows &= rows - 1) {
    int row = __ffs(static_cast<int>(rows)) - 1;
    unsigned hidden = __shfl_sync(kAll, row < 8 ? verdicts[0].hidden : verdicts[1].hidden, row % 8 * 4);
    if (hidden == 0) continue;
    Nearest of_places = search.of_places(first_row + static_cast<size_t>(row) * dim, hidden);
    if (lane == row) nearest.take(of_places.distance, of_places.codeword);
  }
  if (lane < 16 && (open_rows >> lane & 1) != 0) codes[lane] = nearest.code();
}

}  // namespace rvq::cuda
