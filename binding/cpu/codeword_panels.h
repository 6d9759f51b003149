// Codewords as the kernels for rows read them: centred, scaled, some groups of them side by side in a panel.

#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <numeric>

#include "aligned_array.h"
#include "kernels.h"

namespace rvq::cpu {

class CodewordPanels {
 public:
  // codewords[…][row_stride], of `dim` elements.
  CodewordPanels(const Kernels& kernels, const float* codewords, size_t row_stride, size_t dim)
      : kernels_(kernels),
        codewords_(codewords),
        row_stride_(row_stride),
        dim_(dim),
        stride_(std::lcm(kernels.lanes, kGroupCodewords)),
        rows_(stride_ * dim),
        panel_(dim * stride_),
        squared_norms_(stride_) {}

  // Codewords of a panel, whole groups.
  size_t stride() const { return stride_; }

  // Packs the codewords of codes[count], count ≤ stride(); the other places are zeros.
  void pack(const uint32_t* codes, size_t count, const float* centre, const double* scale) {
    for (size_t n = 0; n < stride_; n++) {
      const float* from = n < count ? codewords_ + codes[n] * row_stride_ : centre;
      std::copy_n(from, dim_, rows_.data() + n * dim_);
    }
    kernels_.pack_rows(
        {rows_.data(), stride_, dim_, dim_, centre, scale, stride_, panel_.data(), squared_norms_.data()});
  }

  // [dim][stride], of the codewords packed last.
  const float* panel() const { return panel_.data(); }
  // group[dim][kGroupCodewords] = the codewords of the panel from `first` on.
  void copy_group(size_t first, float* group) const {
    for (size_t i = 0; i < dim_; i++) {
      std::copy_n(panel_.data() + i * stride_ + first, kGroupCodewords, group + i * kGroupCodewords);
    }
  }
  // [stride], before they were rounded to float32.
  const double* squared_norms() const { return squared_norms_.data(); }

 private:
  const Kernels& kernels_;
  const float* codewords_;
  size_t row_stride_;
  size_t dim_;
  size_t stride_;
  AlignedArray<float> rows_;  // [stride][dim]
  AlignedArray<float> panel_;
  AlignedArray<double> squared_norms_;
};

}  // namespace rvq::cpu
