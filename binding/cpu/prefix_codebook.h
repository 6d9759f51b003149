// A packed codebook once more by its principal axes: where vectors are close to a space of few dimensions, their first
// coefficients rule out nearly every codeword.

#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "aligned_array.h"
#include "kernels.h"
#include "packed_codebook.h"
#include "prefix_bound.h"
#include "screen_trial.h"

namespace rvq::cpu {

// What a codebook's searched codewords are measured by in the end; borrowed from its stage.
struct SearchedCodewords {
  const float* elements;  // [K][padded_dim]
  size_t padded_dim;
  const float* weights;  // [padded_dim] or null
};

class PrefixCodebook {
 public:
  // Codewords in the groups of `packed`. Null where a sample of codewords does not lie close to few dimensions, or
  // where what the axes leave open costs more than the search without them; `always`: wherever it is possible.
  static std::unique_ptr<PrefixCodebook> make(const Kernels& kernels, const PackedCodebook& packed,
                                              const SearchedCodewords& searched, bool always);

  size_t axes() const { return axes_; }
  const PrefixBound& bound() const { return bound_; }
  const SearchedCodewords& searched() const { return searched_; }
  Projection projection(const float* panel, size_t panel_stride, float* coefficients) const {
    PackedCodewords axes{dim_, axis_panels_.data(), axis_starts_.data(), nullptr, nullptr};
    return {axes, padded_axes_ / kGroupCodewords, panel, panel_stride, coefficients};
  }
  // axes() + 1 dimensions; without the groups' constants, which are those of bound().
  PackedCodewords view() const { return {axes_ + 1, panels_.data(), packed_.starts, packed_.group_norms, nullptr}; }
  // Clock cycles that a row's open codewords may cost, without limit where the screen is used always, and what one
  // group and one codeword of them cost, about.
  double allowance() const { return allowance_; }
  double group_cost() const { return static_cast<double>(axes_ + 16); }
  double codeword_cost() const { return codeword_cost_; }
  ScreenTrial& trial() const { return trial_; }

  // Coefficients that a projection writes for a row: the axes, rounded up to whole groups.
  size_t padded_axes() const { return padded_axes_; }
  size_t size_bytes() const {
    return axis_panels_.size_bytes() + axis_starts_.size() * sizeof(float) + panels_.size_bytes();
  }

 private:
  PrefixCodebook(const Kernels& kernels, const PackedCodebook& packed, const SearchedCodewords& searched,
                 const std::vector<double>& axes, size_t num_axes);

  void fill_panels(const Kernels& kernels, const PackedCodebook& packed);
  void estimate_cost(const Kernels& kernels, const PackedCodebook& packed);

  PackedCodewords packed_;
  size_t dim_;
  size_t axes_;
  size_t padded_axes_;
  SearchedCodewords searched_;
  PrefixBound bound_;
  AlignedArray<float> axis_panels_;  // [padded_axes / kGroupCodewords][dim][kGroupCodewords]
  std::vector<float> axis_starts_;   // [padded_axes], zeros
  AlignedArray<float> panels_;       // [groups][axes + 1][kGroupCodewords]
  double allowance_;
  double codeword_cost_;
  double cost_ = 0;  // clock cycles a row, estimated
  mutable ScreenTrial trial_;
};

}  // namespace rvq::cpu
