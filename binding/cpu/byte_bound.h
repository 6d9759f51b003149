// What the 8-bit screen's numbers may be, and why its sums are exact; how far its scores can be off.
//
// The operands are X̂ = A / a and Ĉ = B / b as in integer_bound.h, but of 8 bits, and b belongs to one codeword. What is
// lost is again measured for every row and every codeword, the sum A·B is again an exact integer and the scores are
// computed by the same operations: the bound is the one that is proved there. What differs is the range.
//
// The products of an instruction are of an unsigned by a signed byte: the codewords are stored as B + L, L the largest
// |A_i| and |B_i|. Σ A_i·(B_i + L) = A·B + L·Σ A_i, and the sum starts at −L·Σ A_i, which depends on the row alone.
//
// Where an instruction adds four products to 32 bits (AVX-512 VNNI), L is 127 and |A·B| ≤ 127²·D < 2^31. Sums on the
// way may wrap.
//
// Where it adds two products to a 16-bit number that saturates (AVX2), L is 90: |A_i·(B_i + L) + A_j·(B_j + L)| ≤
// 2·90·180 < 2^15. Many such numbers are then added modulo 2^16, which is cheap, before they are widened to 32 bits:
// the elements of a block of words (of four elements each), its elements 0 and 1 modulo 4 in one half and the others in
// the other. At the end of a block, the start taken into account, the half H holds Σ_H A_i·B_i modulo 2^16; and that is
// in the range of 16 bits if only |A_H|·|B_H| < 2^15 (Cauchy and Schwarz). So a·|X_H| and b·|C_H| are at most √2^15
// less what rounding can add, ½√|H|. The multipliers keep this for the largest half of a row and of a codeword.

#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>

#include "integer_bound.h"
#include "kernels.h"

namespace rvq::cpu {

class ByteBound {
 public:
  ByteBound(size_t dim, const ByteKernels& kernels)
      : integers_(dim), largest_(static_cast<double>(kernels.largest)), block_words_(kernels.block_words) {
    // The margin is for the float32 in which the halves are measured.
    double half_elements = static_cast<double>(2 * block_words_);
    half_range_ = (std::sqrt(0x1p15) - 0.5 * std::sqrt(half_elements)) * (1 - 0x1p-12);
  }

  static bool usable(size_t dim) { return dim <= kLargestDim; }

  const IntegerBound& integers() const { return integers_; }
  // The multiplier of a row or a codeword with elements of at most `largest` and, where sums are of 16 bits, halves of
  // a squared norm of at most `squared_half`.
  float multiplier(double largest, double squared_half) const {
    double by_element = largest_ / std::max(largest, kSmall);
    if (block_words_ == 0) return static_cast<float>(by_element);
    return static_cast<float>(std::min(by_element, half_range_ / std::max(std::sqrt(squared_half), kSmall)));
  }

 private:
  // 127²·D stays under 2^31.
  static constexpr size_t kLargestDim = size_t{1} << 16;
  // Smaller rows and codewords get the multiplier of this one: all multipliers stay under 2^56, as integer_bound.h
  // asks.
  static constexpr double kSmall = 0x1p-40;

  IntegerBound integers_;
  double largest_;
  size_t block_words_;
  double half_range_;
};

}  // namespace rvq::cpu
