// Scores as they are ranked, what a thread keeps of them, and what that proves of the nearest codeword.

#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "opaque.cuh"
#include "row_operands.cuh"
#include "screen_bound.h"
#include "stage.cuh"

namespace rvq::cuda {

// Scores as they are ranked: an integer, times a power of two that makes room for a tag in the lowest bits. For rows
// and codewords in a thread's place of the fragments of mma.sync the tag is the number of the codeword among the
// thread's of a set: 2·j + parity for codeword 8·(kSets·j + set) + 2·column + parity.
//
// The integer is the score times a factor of the row, rounded to nearest, and half the range; by one multiply-add,
// since a float32 from 2^23 on has no fraction, and its bits below the exponent are the integer.
struct Ranking {
  int tag_bits = kFewestTagBits;
  int tags = 1 << kFewestTagBits;
  float zero = 0;  // the rank of a score of 0, before its bits are taken for an integer

  Ranking() = default;
  __device__ explicit Ranking(int bits) : tag_bits(bits), tags(1 << bits) {
    zero = static_cast<float>((1 << 23) + half_range());
    // By a multiplication: of those there are more units than for shifts, which the compiler would take.
    make_opaque(tags);
    make_opaque(zero);
  }

  // From 0 to 2^(31 − tag_bits): what is above in the bits of a rank is shifted out.
  __device__ __forceinline__ int rank(float score, float factor) const {
    return __float_as_int(fmaf(score, factor, zero));
  }
  __device__ __forceinline__ int tagged(int rank, int tag) const {
    return static_cast<int>(static_cast<uint32_t>(rank) * static_cast<uint32_t>(tags) + static_cast<uint32_t>(tag));
  }

  // In units of `factor`, from half the range.
  __device__ __forceinline__ float score(int tagged) const {
    return static_cast<float>((tagged >> tag_bits) - half_range());
  }
  __device__ __forceinline__ uint32_t codeword(int tagged, int set, int column) const {
    uint32_t tag = static_cast<uint32_t>(tagged) & static_cast<uint32_t>(tags - 1);
    return (tag / 2 * kSets + static_cast<uint32_t>(set)) * 8 + static_cast<uint32_t>(column) * 2 + tag % 2;
  }

 private:
  __device__ __forceinline__ int half_range() const { return 1 << (30 - tag_bits); }
};

// Places of a row that keep a best: of four threads, each set.
constexpr int kPlaces = 4 * kSets;

// One instruction on Hopper.
__device__ __forceinline__ int largest_of(int a, int b, int c) {
#ifdef RVQ_EMULATE_CUDA
  return max(a, max(b, c));
#else
  return __vimax3_s32(a, b, c);
#endif
}

// What a thread has kept of the tagged upper ends of one row: the best two of every set, or three.
template <bool kThree>
struct Kept {
  int best[kSets];
  int second[kSets];
  int third[kThree ? kSets : 1];

  // Two of a group at once.
  __device__ __forceinline__ void take(int set, int a, int b) {
    int higher = max(a, b);
    int lower = min(a, b);
    if constexpr (kThree) third[set] = largest_of(third[set], min(lower, best[set]), min(higher, second[set]));
    second[set] = largest_of(second[set], lower, min(best[set], higher));
    best[set] = max(best[set], higher);
  }

  // The best of those of a set that may not be known.
  __device__ __forceinline__ int last(int set) const { return kThree ? third[set] : second[set]; }
};

// Takes ranks rank_of(half, parity) of the group kSets · round + set of eight codewords, for both of a thread's rows.
template <bool kThree, typename RankOf>
__device__ __forceinline__ void take_group(const Ranking& ranking, Kept<kThree> (&kept)[2], int round, int set,
                                           const RankOf& rank_of) {
  int tag = 2 * round;
#pragma unroll
  for (int half = 0; half < 2; half++) {
    kept[half].take(set, ranking.tagged(rank_of(half, 0), tag), ranking.tagged(rank_of(half, 1), tag + 1));
  }
}

// 2·G of screen_bound.h for a row whose largest L_i is `lower`, rounded down: it can be below zero.
__device__ __forceinline__ float nearness(float radius, const RowLengths& row, float lower,
                                          const CodewordErrors& errors) {
  float most = row.norm + row.error;
  float squared = most * most * (1 + 0x1p-19f) - 2 * lower + fabsf(lower) * 0x1p-19f;
  float root = approximate_sqrt(fmaxf(squared, 0));
  // n_k ≤ |X| + d, of which e_k is a small part, and so is it then of d; or else the largest of all.
  float relative = errors.relative < 0x1p-10f ? errors.relative * (row.norm + root + row.error) : errors.largest;
  float largest = fminf(errors.largest, relative * (1 + 0x1p-8f));
  float d = (root + row.error + 2 * largest) * (1 + 0x1p-16f);
  float least_norm = fmaxf(errors.least_norm, row.norm * (1 - 0x1p-8f) - d);
  float of_row = radius * errors.row_rounding * (1 - 0x1p-18f) * least_norm - row.error * d;
  float rest = radius * (1 - 0x1p-20f) - (d + row.error);
  float of_codeword = rest * (rest > 0 ? errors.least : largest);
  float of_sum = (radius * (1 - 0x1p-18f) - row.steps_norm) * errors.least_of_sum;
  return 2 * (fmaxf(of_row, 0) + of_codeword + fmaxf(of_sum, 0));
}

// What is known of the nearest codeword of a row: bit 4·set + column of `candidates` stands for the best of the place
// of that thread and set, with three kept bit kPlaces + 4·set + column for its second; of `hidden` for a place that may
// have hidden one, whose best is then a candidate only where there is no other.
struct Verdict {
  unsigned candidates;
  unsigned hidden;
  bool certain;
};

// Of eight rows of the warp, the thread's being fragment_row(); bounds[set] are those of its best codewords. More than
// so many candidates are all hidden. `start_rounding` is γ_h; `lengths` are the row's.
template <int kMostCandidates, bool kThree>
__device__ __forceinline__ Verdict judge(const StageView& view, int dim, const Ranking& ranking,
                                         const Kept<kThree>& kept, const float2 (&bounds)[kSets], const RowState& state,
                                         const RowLengths& lengths, float start_rounding) {
  // Units on each side, six in all. Ranking rounds two scores, ½ each, limbs of a start are up to ½ too large, the
  // width is rounded to 1¼ and what is taken from the score to ½ twice: below four.
  constexpr float kSlack = 3;
  auto upper = [&](int tagged) { return ranking.score(tagged) + kSlack; };

  // The largest lower end of the places' best. An upper end below that and what nearness adds is not the nearest's.
  float lower = -INFINITY;
#pragma unroll
  for (int set = 0; set < kSets; set++) {
    // H_k is more than 1.01 of the start only of codewords most of which is rounded away, far below a unit then.
    float width = fmaxf(state.radius * bounds[set].y - bounds[set].x * start_rounding * 1.01f, 0);
    float end = ranking.score(kept.best[set]) - kSlack - 2 * state.fineness * width;
    // Of a place that has no codeword the slope is below zero.
    lower = bounds[set].y < 0 ? lower : fmaxf(lower, end);
  }
  lower = fmaxf(lower, __shfl_xor_sync(kAll, lower, 1));
  lower = fmaxf(lower, __shfl_xor_sync(kAll, lower, 2));
  float score = __fdividef(lower, state.fineness);
  score -= fabsf(score) * 0x1p-21f;
  lower += state.fineness * nearness(state.radius, lengths, score, view.errors);
  float reach = state.radius + view.largest_norm;
  lower -= state.fineness * (order_rounding(dim) * reach * reach) + fabsf(lower) * 0x1p-22f;

  Verdict verdict{0, 0, false};
  int shift = static_cast<int>(threadIdx.x) & 28;
#pragma unroll
  for (int set = 0; set < kSets; set++) {
    verdict.candidates |= (__ballot_sync(kAll, upper(kept.best[set]) >= lower) >> shift & 15) << (4 * set);
    verdict.hidden |= (__ballot_sync(kAll, upper(kept.last(set)) >= lower) >> shift & 15) << (4 * set);
    if constexpr (kThree) {
      unsigned seconds = __ballot_sync(kAll, upper(kept.second[set]) >= lower) >> shift & 15;
      verdict.candidates |= seconds << (kPlaces + 4 * set);
    }
  }
  constexpr unsigned kAllPlaces = (1u << kPlaces) - 1;
  // Those of a place that is looked through are found there.
  verdict.candidates &= ~(verdict.hidden << kPlaces);
  if (kMostCandidates < kPlaces && __popc(verdict.candidates & ~verdict.hidden) > kMostCandidates) {
    verdict.hidden |= verdict.candidates & kAllPlaces;
    verdict.candidates &= kAllPlaces;
  }
  if (state.unknown) verdict.candidates = verdict.hidden = kAllPlaces;
  verdict.certain = state.not_finite || (verdict.hidden == 0 && __popc(verdict.candidates) == 1);
  // Where there are no others, one of those that are found again: with its distance known the search leaves others
  // early.
  unsigned found_again = verdict.candidates & verdict.hidden;
  verdict.candidates &= ~verdict.hidden;
  if (verdict.candidates == 0) verdict.candidates = found_again & (0 - found_again);
  return verdict;
}

}  // namespace rvq::cuda
