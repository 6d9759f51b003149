// A stage's different codewords as the screen reads them: centred, scaled, sorted by norm and laid out in panels.

#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

#include "aligned_array.h"
#include "byte_codebook.h"
#include "error_bound.h"
#include "integer_codebook.h"
#include "kernels.h"

namespace rvq::cpu {

class CodewordPanels;

// On trial, and only where it can be expected to pay; or whatever the data.
enum class UniformUse { kNever, kOnTrial, kAlways };

// The screens that a codebook is prepared for besides the float32 one.
struct IntegerScreens {
  bool integers;             // in 16 bits, with a multiplier a row and a group
  UniformUse uniform;        // in 16 bits, with one multiplier for all
  const ByteKernels* bytes;  // in 8 bits, or null
  bool bytes_on_trial;       // in 8 bits only while that pays
};

// Neighbouring groups whose norms differ little, so that one bound can serve them all.
struct NormClass {
  size_t first_group;
  size_t last_group;  // past the end
  float norm;         // the largest of a codeword
  float constant;
};

// error_bound.h defines the space (m is `centre`, s·a is `scale`) and E.
class PackedCodebook {
 public:
  // codewords[…][stride] and the codes of those that differ, at least two; weights[dim] or null.
  PackedCodebook(const Kernels& kernels, const float* codewords, size_t stride, size_t dim,
                 const std::vector<uint32_t>& distinct, const float* weights, const IntegerScreens& screens);

  const ErrorBound& bound() const { return bound_; }
  const float* centre() const { return centre_.data(); }
  const double* scale() const { return scale_.data(); }
  // s²: a squared distance of one is this many in the screen's space.
  double squared_unit() const { return squared_unit_; }
  size_t num_groups() const { return group_norms_.size(); }
  PackedCodewords view() const {
    return {centre_.size(), panels_.data(), starts_.data(), group_norms_.data(), group_constants_.data()};
  }

  // Calls visit(NormClass) for the groups first … last − 1 in order, classes at the ends cut to these.
  template <typename Visit>
  void for_each_class(size_t first, size_t last, Visit&& visit) const {
    for (NormClass norm_class : classes_) {
      norm_class.first_group = std::max(first, norm_class.first_group);
      norm_class.last_group = std::min(last, norm_class.last_group);
      if (norm_class.first_group < norm_class.last_group) visit(norm_class);
    }
  }

  // Null where the codebook is not prepared for the 16-bit screen.
  const IntegerCodebook* integers() const { return integers_ ? &*integers_ : nullptr; }
  IntegerCodewords integer_view() const { return integers_->view(starts_.data()); }

  // Likewise for the 8-bit screen.
  const ByteCodebook* bytes() const { return bytes_ ? &*bytes_ : nullptr; }
  IntegerCodewords byte_view() const { return bytes_->view(starts_.data()); }

  // Position group · kGroupCodewords + lane holds codeword code(position); positions from size() on are empty. The
  // bound of a single codeword is tighter than that of its group.
  size_t size() const { return codes_.size(); }
  uint32_t code(size_t position) const { return codes_[position]; }
  const uint32_t* codes() const { return codes_.data(); }
  float norm(size_t position) const { return norms_[position]; }
  float constant(size_t position) const { return constants_[position]; }

  size_t size_bytes() const;

 private:
  // Near most of the codewords. Both know squared norms in the order of `distinct`; the second scales them, too.
  std::vector<double> choose_centre(CodewordPanels& panels, const float* codewords, size_t stride);
  void choose_scale(std::vector<double>& squared_norms);
  double uniform_norm(const std::vector<double>& squared_norms, UniformUse use) const;
  void fill_panels(CodewordPanels& panels, const std::vector<double>& squared_norms);
  void choose_classes();

  ErrorBound bound_;
  std::vector<float> centre_;
  std::vector<double> scale_;
  double squared_unit_ = 1;
  std::vector<uint32_t> codes_;
  AlignedArray<float> panels_;
  std::vector<float> starts_;
  std::vector<float> norms_;
  std::vector<float> constants_;
  std::vector<float> group_norms_;
  std::vector<float> group_constants_;
  std::vector<NormClass> classes_;
  std::optional<IntegerCodebook> integers_;
  std::optional<ByteCodebook> bytes_;
};

}  // namespace rvq::cpu
