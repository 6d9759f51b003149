// A packed codebook once more in 16-bit integers, for the screen by integer dot products.

#pragma once

#include <cstddef>
#include <memory>
#include <optional>
#include <vector>

#include "integer_bound.h"
#include "integer_panels.h"
#include "kernels.h"
#include "screen_trial.h"
#include "uniform_bound.h"

namespace rvq::cpu {

// What the uniform screen needs to know of a codebook.
struct UniformCodewords {
  UniformBound bound;
  float multiplier;  // b of all codewords
  float norm;        // the largest of a codeword
  float error;       // likewise
  float constant;
};

// The same codewords in the same groups as in PackedCodebook; integer_bound.h says what is stored, and uniform_bound.h
// where all groups have one multiplier.
class IntegerCodebook {
 public:
  // own: for the screen with multipliers of their own; uniform_norm: of the largest codeword, if there shall be one
  // multiplier for all, else 0. At least one of the two. on_trial: the uniform screen is to be used only while it pays.
  IntegerCodebook(const IntegerKernels& kernels, size_t dim, size_t groups, bool own, double uniform_norm,
                  bool on_trial);

  // Fills the next groups: panel[dim][scratch.stride] as PackRows leaves it, zero where there is no codeword, and upper
  // bounds of the groups' norms.
  void add_groups(const float* panel, const std::vector<double>& norms, QuantisedCodewords& scratch);

  const IntegerBound& bound() const { return bound_; }
  // Whether the screen with a multiplier a row and a group is to be used; it can be where there is one for all, too.
  bool own() const { return own_; }
  // Null where groups have multipliers of their own.
  const UniformCodewords* uniform() const { return uniform_ ? &*uniform_ : nullptr; }
  // Null where the uniform screen is to be used whether it pays or not.
  ScreenTrial* trial() const { return trial_.get(); }
  IntegerCodewords view(const float* starts) const { return panels_.view(starts); }

  // In clock cycles: what the uniform screen saves a row that is compared with so many codewords, what a group that it
  // leaves open costs, and a row that it leaves too many of.
  double saved(size_t codewords) const { return kSaved * static_cast<double>(codewords); }
  double row_cost(size_t codewords) const { return kRowCost * static_cast<double>(codewords * dim_); }
  static constexpr double kOpenGroupCost = 60;

  size_t size_bytes() const { return panels_.size_bytes(); }

 private:
  static constexpr double kSaved = 0.15;
  static constexpr double kRowCost = 0.25;

  const IntegerKernels& kernels_;
  IntegerBound bound_;
  size_t dim_;
  bool own_;
  IntegerPanels panels_;
  std::optional<UniformCodewords> uniform_;
  std::unique_ptr<ScreenTrial> trial_;
};

}  // namespace rvq::cpu
