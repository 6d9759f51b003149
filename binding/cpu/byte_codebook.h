// A packed codebook once more in bytes, for the screen by 8-bit dot products, and whether that screen pays.

#pragma once

#include <cstddef>
#include <memory>
#include <vector>

#include "byte_bound.h"
#include "integer_panels.h"
#include "kernels.h"
#include "screen_trial.h"

namespace rvq::cpu {

// The same codewords in the same groups as in PackedCodebook; byte_bound.h says what is stored.
class ByteCodebook {
 public:
  // on_trial: to be used only while it pays.
  ByteCodebook(const ByteKernels& kernels, size_t dim, size_t groups, bool on_trial);

  // Fills the next groups, like IntegerCodebook::add_groups.
  void add_groups(const float* panel, const std::vector<double>& norms, QuantisedCodewords& scratch);

  const ByteBound& bound() const { return bound_; }
  IntegerCodewords view(const float* starts) const { return panels_.view(starts); }

  // Null where this screen is to be used whether it pays or not.
  ScreenTrial* trial() const { return trial_.get(); }
  // In clock cycles: what the screen saves a row that is compared with so many codewords, and what it costs to measure
  // a codeword that it leaves open, or to screen a row in float32 after all.
  double saved(size_t codewords) const { return kernels_.costs.saved * static_cast<double>(codewords * dim_); }
  double candidate_cost() const {
    return kernels_.costs.candidate + kernels_.costs.candidate_dim * static_cast<double>(dim_);
  }
  double row_cost(size_t codewords) const { return kRowCost * static_cast<double>(codewords * dim_); }

  size_t size_bytes() const { return panels_.size_bytes(); }

 private:
  // Cycles a product where codewords are read for a single row. Measured with AVX-512 and AVX2 at K 1024, D 128.
  static constexpr double kRowCost = 0.25;

  const ByteKernels& kernels_;
  ByteBound bound_;
  size_t dim_;
  IntegerPanels panels_;
  std::unique_ptr<ScreenTrial> trial_;
};

}  // namespace rvq::cpu
