// The groups of a packed codebook as an integer screen reads them.

#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "aligned_array.h"
#include "integer_bound.h"
#include "kernels.h"

namespace rvq::cpu {

// Filled group by group; integer_bound.h says what the numbers mean.
class IntegerPanels {
 public:
  // words: of 32 bits, in a codeword.
  IntegerPanels(size_t words, size_t groups) : words_(words), panels_(groups * words * kGroupCodewords) {
    std::fill_n(panels_.data(), panels_.size(), 0u);
  }

  // [words][kGroupCodewords] of the group that is closed next, zeros at first.
  uint32_t* next() { return panels_.data() + group_norms_.size() * words_ * kGroupCodewords; }
  void add_factor(double multiplier) { factors_.push_back(static_cast<float>(1 / multiplier)); }
  // Upper bounds of the group's norms and errors.
  void close_group(const IntegerBound& bound, double norm, double error) {
    constexpr double kUp = 1 + 0x1p-22;
    group_norms_.push_back(static_cast<float>(norm * kUp));
    group_errors_.push_back(static_cast<float>(error * kUp));
    group_constants_.push_back(bound.codeword_constant(norm));
  }

  // To what the group closed last has, if that is more.
  void raise(float& norm, float& error, float& constant) const {
    norm = std::max(norm, group_norms_.back());
    error = std::max(error, group_errors_.back());
    constant = std::max(constant, group_constants_.back());
  }

  IntegerCodewords view(const float* starts) const {
    return {words_,
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
  size_t words_;
  AlignedArray<uint32_t> panels_;
  std::vector<float> factors_;  // of a group or of every codeword, as the screen has them
  std::vector<float> group_norms_;
  std::vector<float> group_errors_;
  std::vector<float> group_constants_;
};

}  // namespace rvq::cpu
