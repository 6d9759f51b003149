// A packed codebook once more in 16-bit integers, for the screen by integer dot products.

#include "integer_codebook.h"

#include <algorithm>
#include <cmath>

namespace rvq::cpu {

namespace {

// The largest |element| of a group of a panel[dim][stride].
float largest_of(const float* panel, size_t dim, size_t stride) {
  float largest[kGroupCodewords] = {};
  for (size_t i = 0; i < dim; i++) {
    for (size_t c = 0; c < kGroupCodewords; c++) largest[c] = std::max(largest[c], std::fabs(panel[i * stride + c]));
  }
  return *std::max_element(largest, largest + kGroupCodewords);
}

}  // namespace

IntegerCodebook::IntegerCodebook(const IntegerKernels& kernels, size_t dim, size_t groups, bool own,
                                 double uniform_norm, bool on_trial)
    : kernels_(kernels), bound_(dim), dim_(dim), own_(own), panels_((dim + 1) / 2, groups) {
  if (uniform_norm == 0) return;
  UniformBound bound(dim);
  uniform_ = {bound, bound.codeword_multiplier(uniform_norm), 0, 0, 0};
  if (on_trial) trial_ = std::make_unique<ScreenTrial>();
}

void IntegerCodebook::add_groups(const float* panel, const std::vector<double>& norms, QuantisedCodewords& scratch) {
  float* multipliers = scratch.multipliers.data();
  std::fill_n(multipliers, scratch.stride, 0.0f);
  for (size_t group = 0; group < norms.size(); group++) {
    size_t first = group * kGroupCodewords;
    float multiplier = uniform_
                           ? uniform_->multiplier
                           : bound_.codeword_multiplier(norms[group], largest_of(panel + first, dim_, scratch.stride));
    std::fill_n(multipliers + first, kGroupCodewords, multiplier);
  }
  kernels_.quantise_rows(
      {panel, dim_, scratch.stride, multipliers, scratch.words.data(), scratch.squared_errors.data()});

  for (size_t group = 0; group < norms.size(); group++) {
    size_t first = group * kGroupCodewords;
    const float* squared_errors = scratch.squared_errors.data() + first;
    float most = *std::max_element(squared_errors, squared_errors + kGroupCodewords);
    double error = bound_.error(norms[group], multipliers[first], most);
    panels_.fill(scratch, first, [](uint32_t pair) { return pair; });
    panels_.add_factor(multipliers[first]);
    panels_.close_group(bound_, norms[group], error);
    if (uniform_) panels_.raise(uniform_->norm, uniform_->error, uniform_->constant);
  }
}

}  // namespace rvq::cpu
