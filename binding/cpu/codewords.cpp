// What is asked of a stage's codewords before they are packed.

#include "codewords.h"

#include <algorithm>
#include <bit>
#include <numeric>

namespace rvq::cpu {

namespace {

// The bits that count: a dimension of weight zero does not matter to a distance, nor does the sign of a zero.
uint32_t significant_bits(float element, const float* weight) {
  if (element == 0 || (weight != nullptr && *weight == 0)) return 0;
  return std::bit_cast<uint32_t>(element);
}

// Some total order of codewords; zero where they are the same to every distance.
int compare_codewords(const float* a, const float* b, const float* weights, size_t dim) {
  for (size_t i = 0; i < dim; i++) {
    const float* weight = weights == nullptr ? nullptr : weights + i;
    uint32_t bits_a = significant_bits(a[i], weight);
    uint32_t bits_b = significant_bits(b[i], weight);
    if (bits_a != bits_b) return bits_a < bits_b ? -1 : 1;
  }
  return 0;
}

// centre[i] = the mean of the codewords of these codes, rounded to float32. A mean of float32 values cannot overflow.
void mean_of(const float* codewords, size_t stride, size_t dim, const std::vector<uint32_t>& codes, float* centre) {
  std::vector<double> sum(dim, 0.0);
  for (uint32_t k : codes) {
    const float* codeword = codewords + k * stride;
    for (size_t i = 0; i < dim; i++) sum[i] += codeword[i];
  }
  double count = static_cast<double>(codes.size());
  for (size_t i = 0; i < dim; i++) centre[i] = static_cast<float>(sum[i] / count);
}

}  // namespace

// Sorted and not hashed: a codebook may come from a file that means harm, and this takes O(K log K) comparisons
// whatever is in it.
std::vector<uint32_t> distinct_codes(const float* codewords, size_t count, size_t stride, size_t dim,
                                     const float* weights) {
  auto compare = [=](uint32_t a, uint32_t b) {
    return compare_codewords(codewords + a * stride, codewords + b * stride, weights, dim);
  };
  std::vector<uint32_t> codes(count);
  std::iota(codes.begin(), codes.end(), 0u);
  std::sort(codes.begin(), codes.end(), [&](uint32_t a, uint32_t b) {
    int order = compare(a, b);
    return order != 0 ? order < 0 : a < b;
  });

  // The first of each run of equals is its lowest code.
  auto end = std::unique(codes.begin(), codes.end(), [&](uint32_t a, uint32_t b) { return compare(a, b) == 0; });
  std::sort(codes.begin(), end);
  return {codes.begin(), end};
}

// Those far from the mean of all are left out of a second mean: otherwise one codeword of a million among ones of one
// would move the centre away from every other.
void choose_centre(const float* codewords, size_t stride, size_t dim, const std::vector<uint32_t>& codes,
                   const double* scale, float* centre) {
  constexpr double kFar = 16;  // In squared distances: four times the median distance.
  mean_of(codewords, stride, dim, codes, centre);
  std::vector<double> distances(codes.size());
  for (size_t k = 0; k < codes.size(); k++) {
    const float* codeword = codewords + codes[k] * stride;
    for (size_t i = 0; i < dim; i++) {
      double x = static_cast<double>(codeword[i]) - centre[i];
      if (scale != nullptr) x *= scale[i];
      distances[k] += x * x;
    }
  }
  std::vector<double> sorted = distances;
  auto median = sorted.begin() + static_cast<std::ptrdiff_t>(sorted.size() / 2);
  std::nth_element(sorted.begin(), median, sorted.end());
  std::vector<uint32_t> near;
  for (size_t k = 0; k < codes.size(); k++) {
    if (distances[k] <= kFar * *median) near.push_back(codes[k]);
  }
  if (near.size() < codes.size()) mean_of(codewords, stride, dim, near, centre);
}

}  // namespace rvq::cpu
