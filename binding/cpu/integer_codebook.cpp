// A packed codebook once more in 16-bit integers, for the screen by integer dot products.

#include "integer_codebook.h"

#include <algorithm>
#include <cmath>

namespace rvq::cpu {

IntegerCodebook::IntegerCodebook(size_t dim, size_t groups, bool own, double uniform_norm, bool on_trial)
    : bound_(dim), dim_(dim), own_(own), panels_((dim + 1) / 2, groups) {
  if (uniform_norm == 0) return;
  UniformBound bound(dim);
  uniform_ = {bound, bound.codeword_multiplier(uniform_norm), 0, 0, 0};
  if (on_trial) trial_ = std::make_unique<ScreenTrial>();
}

void IntegerCodebook::add_group(const double* codewords, double norm) {
  double largest = 0;
  for (size_t i = 0; i < kGroupCodewords * dim_; i++) largest = std::max(largest, std::fabs(codewords[i]));
  double multiplier = uniform_ ? uniform_->multiplier : bound_.codeword_multiplier(norm, largest);

  uint32_t* panel = panels_.next();
  double error = 0;
  for (size_t lane = 0; lane < kGroupCodewords; lane++) {
    const double* codeword = codewords + lane * dim_;
    double squared_error = 0;
    for (size_t i = 0; i < dim_; i++) {
      double integer = std::nearbyint(codeword[i] * multiplier);
      double lost = codeword[i] - integer / multiplier;
      squared_error += lost * lost;
      uint32_t bits = static_cast<uint16_t>(static_cast<int32_t>(integer));
      panel[i / 2 * kGroupCodewords + lane] |= i % 2 == 0 ? bits : bits << 16;
    }
    error = std::max(error, bound_.codeword_error(norm, squared_error));
  }

  panels_.add_factor(multiplier);
  panels_.close_group(bound_, norm, error);
  if (uniform_) panels_.raise(uniform_->norm, uniform_->error, uniform_->constant);
}

}  // namespace rvq::cpu
