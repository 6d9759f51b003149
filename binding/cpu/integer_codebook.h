// A packed codebook once more in 16-bit integers, for the screen by integer dot products.

#pragma once

#include <cstddef>

#include "integer_bound.h"
#include "integer_panels.h"
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
  IntegerCodewords view(const float* starts) const { return panels_.view(starts); }

  size_t size_bytes() const { return panels_.size_bytes(); }

 private:
  IntegerBound bound_;
  size_t dim_;
  IntegerPanels panels_;
};

}  // namespace rvq::cpu
