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

// What the kernels for rows make of a panel of codewords, of some groups.
struct QuantisedCodewords {
  QuantisedCodewords(size_t dim, size_t stride)
      : stride(stride),
        multipliers(stride),
        squared_errors(stride),
        largest(stride),
        half_squares(stride),
        words((dim + 1) / 2 * stride),
        row_starts((dim + 3) / 4 * stride) {}

  size_t stride;
  AlignedArray<float> multipliers;
  AlignedArray<float> squared_errors;
  AlignedArray<float> largest;
  AlignedArray<float> half_squares;
  AlignedArray<uint32_t> words;       // of 16 bits or 8
  AlignedArray<uint32_t> row_starts;  // codewords need none
};

// Filled group by group; integer_bound.h says what the numbers mean.
class IntegerPanels {
 public:
  // words: of 32 bits, in a codeword.
  IntegerPanels(size_t words, size_t groups) : words_(words), panels_(groups * words * kGroupCodewords) {}

  // [words][kGroupCodewords] of the group that is closed next: convert(word) of the codewords from `first` on.
  template <typename Convert>
  void fill(const QuantisedCodewords& quantised, size_t first, Convert&& convert) {
    uint32_t* panel = panels_.data() + group_norms_.size() * words_ * kGroupCodewords;
    for (size_t word = 0; word < words_; word++) {
      const uint32_t* from = quantised.words.data() + word * quantised.stride + first;
      for (size_t c = 0; c < kGroupCodewords; c++) panel[word * kGroupCodewords + c] = convert(from[c]);
    }
  }
  void add_factor(float multiplier) { factors_.push_back(static_cast<float>(1 / static_cast<double>(multiplier))); }
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
