// A packed codebook once more in bytes, for the screen by 8-bit dot products, and whether that screen pays.

#pragma once

#include <cstddef>
#include <memory>

#include "byte_bound.h"
#include "byte_trial.h"
#include "integer_panels.h"
#include "kernels.h"

namespace rvq::cpu {

// The same codewords in the same groups as in PackedCodebook; byte_bound.h says what is stored.
class ByteCodebook {
 public:
  // on_trial: to be used only while it pays.
  ByteCodebook(const ByteKernels& kernels, size_t dim, size_t groups, bool on_trial);

  // Fills the next group: codewords[kGroupCodewords][dim] in the screen's space before any rounding, zero where there
  // is none, and an upper bound of their norms.
  void add_group(const double* codewords, double norm);

  const ByteBound& bound() const { return bound_; }
  IntegerCodewords view(const float* starts) const { return panels_.view(starts); }

  // Null where this screen is to be used whether it pays or not.
  ByteTrial* trial() const { return trial_.get(); }

  size_t size_bytes() const { return panels_.size_bytes(); }

 private:
  float multiplier(const double* codeword) const;

  const ByteKernels& kernels_;
  ByteBound bound_;
  size_t dim_;
  IntegerPanels panels_;
  std::unique_ptr<ByteTrial> trial_;
};

}  // namespace rvq::cpu
