// A packed codebook once more in 16-bit integers, for the screen by integer dot products.

#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "aligned_array.h"
#include "integer_bound.h"
#include "kernels.h"

namespace rvq::cpu {

// The same codewords in the same groups as in PackedCodebook; integer_bound.h says what is stored.
class IntegerCodebook {
 public:
  explicit IntegerCodebook(size_t dim, size_t groups);

  // Fills the next group: codewords[kGroupCodewords][dim] in the screen's space before any rounding, zero where there
  // is none, and an upper bound of their norms.
  void add_group(const double* codewords, double norm);

  const IntegerBound& bound() const { return bound_; }
  IntegerCodewords view(const float* starts) const {
    return {pairs_,
            panels_.data(),
            starts,
            factors_.data(),
            group_norms_.data(),
            group_errors_.data(),
            group_constants_.data()};
  }

  size_t size_bytes() const {
    return panels_.size_bytes() + sizeof(float) * (factors_.size() + 3 * group_norms_.size());
  }

 private:
  IntegerBound bound_;
  size_t dim_;
  size_t pairs_;
  AlignedArray<uint32_t> panels_;
  std::vector<float> factors_;
  std::vector<float> group_norms_;
  std::vector<float> group_errors_;
  std::vector<float> group_constants_;
};

}  // namespace rvq::cpu
