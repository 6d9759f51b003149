// A packed codebook once more in bytes, for the screen by 8-bit dot products.

#include "byte_codebook.h"

#include <algorithm>
#include <cmath>

namespace rvq::cpu {

ByteCodebook::ByteCodebook(const ByteKernels& kernels, size_t dim, size_t groups, bool on_trial)
    : kernels_(kernels),
      bound_(dim, kernels),
      dim_(dim),
      panels_((dim + 3) / 4, groups),
      trial_(on_trial ? std::make_unique<ScreenTrial>() : nullptr) {}

float ByteCodebook::multiplier(const double* codeword) const {
  double largest = 0;
  double squared_half = 0;
  double squares[2] = {};
  for (size_t i = 0; i < dim_; i++) {
    // A new block has empty halves.
    if (kernels_.block_words > 0 && i % (4 * kernels_.block_words) == 0) squares[0] = squares[1] = 0;
    largest = std::max(largest, std::fabs(codeword[i]));
    double& square = squares[i / 2 % 2];
    square += codeword[i] * codeword[i];
    squared_half = std::max(squared_half, square);
  }
  return bound_.multiplier(largest, squared_half);
}

void ByteCodebook::add_group(const double* codewords, double norm) {
  uint32_t* panel = panels_.next();
  double error = 0;
  for (size_t lane = 0; lane < kGroupCodewords; lane++) {
    const double* codeword = codewords + lane * dim_;
    double b = multiplier(codeword);
    double squared_error = 0;
    for (size_t i = 0; i < dim_; i++) {
      double integer = std::nearbyint(codeword[i] * b);
      double lost = codeword[i] - integer / b;
      squared_error += lost * lost;
      uint32_t bits = static_cast<uint32_t>(static_cast<int32_t>(integer) + kernels_.largest);
      panel[i / 4 * kGroupCodewords + lane] |= bits << (i % 4 * 8);
    }
    error = std::max(error, bound_.integers().codeword_error(norm, squared_error));
    panels_.add_factor(b);
  }
  panels_.close_group(bound_.integers(), norm, error);
}

}  // namespace rvq::cpu
