// How far the score of the uniform 16-bit screen can be from what decides the search, and the proof.
//
// As integer_bound.h, but a is one multiplier for all rows of a tile and b one for all codewords: scores of a row are
// compared as the integers that they are, Ŝ = (A·B + H) / (ab) with H = nearest(h·ab). ρ and n are the largest norms of
// the tile and of the codebook where they choose a and b.
//
// No sum overflows. b·n ≤ 32765 and a·ρ ≤ 32765, so that every element is below 2^15, and with q = ½√D
// |A·B| + |H| ≤ (aρ + q)·(bn + q) + ab·½n²·(1 + 2^-20) + 1 ≤ (32766 + q)·(a·(ρ + ½n)·(1 + 2^-20) + q) + 1 < 2^31.
//
// What is lost is what integer_bound.h counts, and besides ½ in the rounding of H, and two more roundings of numbers of
// at most ½n²: of the product ab, and of h·ab to float32. Its `rounding` has room for these.
//   E = E of integer_bound.h + 1 / (ab)

#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>

#include "integer_bound.h"

namespace rvq::cpu {

class UniformBound {
 public:
  explicit UniformBound(size_t dim) : half_root_(0.5 * std::sqrt(static_cast<double>(dim))) {}

  // b for codewords of norm at most n.
  float codeword_multiplier(double norm) const { return static_cast<float>(kRange / norm); }
  // a for rows of norm at most ρ beside codewords of norm at most n.
  float row_multiplier(double row_norm, double norm) const {
    double sums = 0x1p31 / (kRange + 1 + half_root_) - half_root_ - 2;
    double most = sums / ((row_norm + 0.5 * norm) * (1 + 0x1p-20));
    return static_cast<float>(row_norm * most <= kRange ? most : kRange / row_norm);
  }

 private:
  static constexpr double kRange = 32765;

  double half_root_;
};

}  // namespace rvq::cpu
