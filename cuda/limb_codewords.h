// Codewords as two int8 limbs (screen_bound.h), on the host.

#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "screen_bound.h"

namespace rvq::cuda {

// Puts the limbs of element(i), i < dim, each times `scale`, at high[place[i]] and `to_low` bytes further.
template <typename Element>
LimbSums pack_limbs(const Element& element, size_t dim, double scale, const size_t* place, unsigned char* high,
                    size_t to_low) {
  LimbSums sums;
  for (size_t i = 0; i < dim; i++) {
    double x = element(i);
    auto whole = static_cast<int>(std::lrint(x * scale));
    // Not to depend on how a number below zero is shifted.
    int high_limb = (whole + 128 + (1 << 16)) / 256 - 256;
    int low_limb = whole - 256 * high_limb;
    high[place[i]] = static_cast<unsigned char>(high_limb);
    high[place[i] + to_low] = static_cast<unsigned char>(low_limb);
    double error = whole / scale - x;
    double low = low_limb / scale;
    sums.squared_norm += x * x;
    sums.squared_error += error * error;
    sums.squared_low += low * low;
    sums.largest = std::max(sums.largest, std::fabs(x));
  }
  return sums;
}

// The largest element of a codeword over its norm, in the mean of those that are not zero.
inline double mean_peak(const std::vector<LimbSums>& codewords, int dim) {
  double sum = 0;
  size_t count = 0;
  for (const LimbSums& codeword : codewords) {
    if (!(codeword.squared_norm > 0)) continue;
    sum += codeword.largest / std::sqrt(codeword.squared_norm);
    count++;
  }
  return count > 0 ? sum / static_cast<double>(count) : 1 / std::sqrt(dim);
}

}  // namespace rvq::cuda
