// A packed codebook once more in bytes, for the screen by 8-bit dot products.

#include "byte_codebook.h"

#include <algorithm>

namespace rvq::cpu {

namespace {

// Four bytes and four bytes, each modulo 256.
uint32_t add_bytes(uint32_t a, uint32_t b) {
  constexpr uint32_t kHighest = 0x80808080;
  return ((a & ~kHighest) + (b & ~kHighest)) ^ ((a ^ b) & kHighest);
}

}  // namespace

ByteCodebook::ByteCodebook(const ByteKernels& kernels, size_t dim, size_t groups, bool on_trial)
    : kernels_(kernels),
      bound_(dim, kernels),
      dim_(dim),
      panels_((dim + 3) / 4, groups),
      trial_(on_trial ? std::make_unique<ScreenTrial>() : nullptr) {}

void ByteCodebook::add_groups(const float* panel, const std::vector<double>& norms, QuantisedCodewords& scratch) {
  size_t stride = scratch.stride;
  float* multipliers = scratch.multipliers.data();
  kernels_.measure({panel, dim_, stride, scratch.largest.data(), scratch.half_squares.data()});
  for (size_t n = 0; n < stride; n++) multipliers[n] = bound_.multiplier(scratch.largest[n], scratch.half_squares[n]);
  kernels_.quantise_rows({panel, dim_, stride, multipliers, scratch.words.data(), scratch.row_starts.data(),
                          scratch.squared_errors.data()});

  uint32_t offsets = static_cast<uint32_t>(kernels_.largest) * 0x01010101u;
  for (size_t group = 0; group < norms.size(); group++) {
    size_t first = group * kGroupCodewords;
    double error = 0;
    for (size_t n = first; n < first + kGroupCodewords; n++) {
      error = std::max(error, bound_.integers().error(norms[group], multipliers[n], scratch.squared_errors[n]));
      panels_.add_factor(multipliers[n]);
    }
    panels_.fill(scratch, first, [=](uint32_t bytes) { return add_bytes(bytes, offsets); });
    panels_.close_group(bound_.integers(), norms[group], error);
  }
}

}  // namespace rvq::cpu
