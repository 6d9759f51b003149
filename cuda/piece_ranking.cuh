// What a thread keeps of the scores of wgmma where rows' operands are in registers: by pieces of 64 codewords, of which
// it has sixteen for each of its rows.
//
// Upper ends come from the tensor cores as float32 that are not below zero (screen_bound.h), times q: their bits are in
// the same order, and the instructions for the largest of two or three integers compare them as they are. Nothing is
// done for one codeword alone.
//
// A codeword of a thread is told by its piece and by two digits of four values: its group of eight modulo four, and
// its member: the half of the piece and the parity of its number. A thread keeps the largest upper end of every value
// of each digit, and of its pieces the largest two, with their numbers, and the third. Any two codewords differ in one
// of the three. So where only one value of each digit and one piece reach a bound, one codeword does, and it is known;
// where there are more, all that do are combinations of them.

#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "opaque.cuh"
#include "ranking.cuh"
#include "row_operands.cuh"
#include "screen_bound.h"
#include "stage.cuh"

namespace rvq::cuda {

// Values of the digits.
constexpr int kGroupValues = 4;
constexpr int kMemberValues = 2 * kPieceGroups / kGroupValues;

constexpr uint32_t kNoCodeword = ~0u;

// The largest upper end of a piece as an integer, times a power of two that makes room for the piece's number.
//
// The integer is the upper end times a factor of the row, rounded to nearest; by one multiply-add, since a float32
// from 2^23 on has no fraction, and its bits below the exponent are the integer.
struct PieceRanking {
  int tag_bits = kFewestTagBits;
  int tags = 1 << kFewestTagBits;

  PieceRanking() = default;
  __device__ explicit PieceRanking(int bits) : tag_bits(bits), tags(1 << bits) { make_opaque(tags); }

  // From 0 to 2^(31 − tag_bits): what is above in the bits is shifted out.
  __device__ __forceinline__ int tagged(int bits, float factor, int piece) const {
    int rank = __float_as_int(fmaf(__int_as_float(bits), factor, 0x1p23f));
    return static_cast<int>(static_cast<uint32_t>(rank) * static_cast<uint32_t>(tags) + static_cast<uint32_t>(piece));
  }
  // In units of the factor.
  __device__ __forceinline__ int rank(int tagged) const { return tagged >> tag_bits; }
  __device__ __forceinline__ uint32_t piece(int tagged) const {
    return static_cast<uint32_t>(tagged) & static_cast<uint32_t>(tags - 1);
  }
};

// Of one row, or zeros.
struct KeptPieces {
  int groups[kGroupValues];    // upper ends by the first digit
  int members[kMemberValues];  // by the second
  int pieces[3];               // ranked

  // Takes a piece: sums[n][2·half + parity] of codeword 8·n + 2·column + parity.
  __device__ __forceinline__ void take(const float (&sums)[kPieceGroups][4], int half, int piece,
                                       const PieceRanking& ranking, float factor) {
    auto upper = [&](int n, int parity) { return __float_as_int(sums[n][2 * half + parity]); };
    int of_piece[kGroupValues];
#pragma unroll
    for (int g = 0; g < kGroupValues; g++) {
      of_piece[g] = upper(g, 0);
      // Two at a time, the last one alone.
#pragma unroll
      for (int i = 1; i + 1 < kMemberValues; i += 2) {
        int n = (i + 1) / 2 * kGroupValues + g;
        of_piece[g] = largest_of(of_piece[g], upper(n - kGroupValues, 1), upper(n, 0));
      }
      of_piece[g] = max(of_piece[g], upper(kPieceGroups - kGroupValues + g, 1));
      groups[g] = max(groups[g], of_piece[g]);
    }
#pragma unroll
    for (int m = 0; m < kMemberValues; m++) {
#pragma unroll
      for (int n = m / 2 * kGroupValues; n < (m / 2 + 1) * kGroupValues; n += 2) {
        members[m] = largest_of(members[m], upper(n, m % 2), upper(n + 1, m % 2));
      }
    }
    static_assert(kGroupValues == 4);
    int largest = max(largest_of(of_piece[0], of_piece[1], of_piece[2]), of_piece[3]);
    int rank = ranking.tagged(largest, factor, piece);
    int lower = min(pieces[0], rank);
    pieces[0] = max(pieces[0], rank);
    pieces[2] = max(pieces[2], min(pieces[1], lower));
    pieces[1] = max(pieces[1], lower);
  }

  __device__ __forceinline__ int best() const { return max(largest_of(groups[0], groups[1], groups[2]), groups[3]); }

  // The values of a digit that reach a bound, as bits.
  template <int kValues>
  __device__ static __forceinline__ unsigned reaching(const int (&digit)[kValues], int bound) {
    unsigned values = 0;
#pragma unroll
    for (int i = 0; i < kValues; i++) values |= digit[i] >= bound ? 1u << i : 0u;
    return values;
  }

  __device__ static __forceinline__ uint32_t codeword(uint32_t piece, int group, int member, int column) {
    return piece * kPieceCodewords +
           static_cast<uint32_t>((member / 2 * kGroupValues + group) * 8 + column * 2 + member % 2);
  }

  // That of the best upper end; kNoCodeword where it can be several's: what is known of them may be of different ones.
  __device__ __forceinline__ uint32_t best_codeword(const PieceRanking& ranking, int column) const {
    int largest = best();
    int with_group = 0;
    int with_member = 0;
    int group = 0;
    int member = 0;
#pragma unroll
    for (int i = 0; i < kGroupValues; i++) {
      with_group += groups[i] == largest;
      group = groups[i] == largest ? i : group;
    }
#pragma unroll
    for (int i = 0; i < kMemberValues; i++) {
      with_member += members[i] == largest;
      member = members[i] == largest ? i : member;
    }
    // Rounding to ranks keeps the order, but not what is next to each other apart.
    bool known = with_group * with_member == 1 && ranking.rank(pieces[0]) > ranking.rank(pieces[1]);
    return known ? codeword(ranking.piece(pieces[0]), group, member, column) : kNoCodeword;
  }
};

// What a thread knows of the nearest codeword of a row: all of its own that can be are combinations of the values of
// both digits and of the first `num_pieces` of its pieces, or `hidden`: any of its codewords can.
struct PieceVerdict {
  unsigned groups;
  unsigned members;
  int num_pieces;
  bool hidden;
  bool certain;  // of the row: there is one
  bool speaks;   // it is this thread's best

  __device__ __forceinline__ int combinations() const { return num_pieces * __popc(groups) * __popc(members); }
};

// Of eight rows of the warp, the thread's being fragment_row(), of these lengths; `bound` is that of its best codeword,
// or a wider one.
__device__ __forceinline__ PieceVerdict judge(const StageView& view, int dim, const PieceRanking& ranking,
                                              const KeptPieces& kept, const float2& bound, const RowState& state,
                                              const RowLengths& lengths) {
  // 1/inverse is q, by which upper ends are too large here.
  float q = state.inverse > 0 ? inverse_of_power(state.inverse) : 0;
  float norm = view.largest_norm;
  float best = __int_as_float(kept.best());
  float width = state.radius * bound.y + bound.x;
  float lower = best - best * 0x1p-22f - (2 + 0x1p-10f) * q * width;
  lower = fmaxf(lower, __shfl_xor_sync(kAll, lower, 1));
  lower = fmaxf(lower, __shfl_xor_sync(kAll, lower, 2));
  float score = lower * state.inverse - added_shift(state.radius, view.shift, norm);
  lower += q * nearness(state.radius, lengths, score, view.errors) - fabsf(lower) * 0x1p-22f;
  float reach = state.radius + norm;
  lower -= q * (order_rounding(dim) * reach * reach);
  // Upper ends of codewords are above zero, those of places without one zero.
  int reached = __float_as_int(fmaxf(lower, 0));
  // A unit for what ranking rounds, and one for this product.
  float ranked = lower * (state.fineness * state.inverse) - 2;

  PieceVerdict verdict{};
  verdict.groups = KeptPieces::reaching(kept.groups, reached);
  verdict.members = KeptPieces::reaching(kept.members, reached);
  bool reaches = verdict.groups != 0;
  verdict.num_pieces = !reaches ? 0 : static_cast<float>(ranking.rank(kept.pieces[1])) >= ranked ? 2 : 1;
  verdict.hidden = state.unknown || (reaches && static_cast<float>(ranking.rank(kept.pieces[2])) >= ranked);
  int combinations = verdict.hidden ? 2 : min(verdict.combinations(), 2);
  int of_row = combinations + __shfl_xor_sync(kAll, combinations, 1);
  of_row += __shfl_xor_sync(kAll, of_row, 2);
  verdict.certain = state.not_finite || of_row == 1;
  verdict.speaks = combinations == 1;
  return verdict;
}

// What the four threads of a row leave open, the same for all of them but for `first`.
struct PieceListing {
  unsigned candidates;  // as many low bits as there are combinations
  unsigned hidden;      // places, as of a Verdict
  int first;            // the thread's first combination among those of the row, −1 where it has none there
};

// By the whole warp. More than so many candidates are hidden.
template <int kMostCandidates>
__device__ __forceinline__ PieceListing list_pieces(const PieceVerdict& verdict) {
  static_assert(kMostCandidates <= 16);
  PieceListing listing{0, 0, -1};
  int own = verdict.hidden ? kMostCandidates + 1 : verdict.combinations();
  int sum = 0;
#pragma unroll
  for (int column = 0; column < 4; column++) {
    int count = __shfl_sync(kAll, own, (static_cast<int>(threadIdx.x) & 28) + column);
    if (sum + count > kMostCandidates) {
      // All four sets of the thread's places.
      listing.hidden |= 0x1111u << column;
    } else {
      if (column == fragment_column() && count > 0) listing.first = sum;
      sum += count;
    }
  }
  listing.candidates = (1u << sum) - 1;
  return listing;
}

// write(place, codeword) for the thread's combinations, the one that it is most often being `best`.
template <typename Write>
__device__ __forceinline__ void each_combination(const PieceVerdict& verdict, const PieceListing& listing,
                                                 const KeptPieces& kept, const PieceRanking& ranking, uint32_t best,
                                                 const Write& write) {
  if (listing.first < 0) return;
  int place = listing.first;
  if (verdict.speaks) {
    write(place, best);
    return;
  }
#pragma unroll 1
  for (int p = 0; p < verdict.num_pieces; p++) {
    uint32_t piece = ranking.piece(p == 0 ? kept.pieces[0] : kept.pieces[1]);
#pragma unroll 1
    for (unsigned groups = verdict.groups; groups != 0; groups &= groups - 1) {
#pragma unroll 1
      for (unsigned members = verdict.members; members != 0; members &= members - 1) {
        int group = __ffs(static_cast<int>(groups)) - 1;
        int member = __ffs(static_cast<int>(members)) - 1;
        write(place++, KeptPieces::codeword(piece, group, member, fragment_column()));
      }
    }
  }
}

}  // namespace rvq::cuda
