// A stage's different codewords as the screen reads them: centre, scale, order and panels.

#include "packed_codebook.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "codewords.h"

namespace rvq::cpu {

namespace {

// The score of a place without a codeword: below that of any codeword, and finite.
constexpr float kNoCodeword = -1e38f;
// Groups of a class: their norms differ by this factor at most, and with them the part of the bound that matters.
constexpr float kLikeNorms = 2;
// Codewords share one multiplier where the largest norm is at most eight times the median: three bits of fifteen.
constexpr double kAlike = 64;  // In squares.

double squared_norm_of(const float* codeword, const std::vector<float>& centre, const std::vector<double>& scale) {
  double sum = 0;
  for (size_t i = 0; i < centre.size(); i++) {
    double x = (static_cast<double>(codeword[i]) - centre[i]) * scale[i];
    sum += x * x;
  }
  return sum;
}

}  // namespace

PackedCodebook::PackedCodebook(const float* codewords, size_t stride, size_t dim, const std::vector<uint32_t>& distinct,
                               const float* weights, const IntegerScreens& screens)
    : bound_(dim), centre_(dim), scale_(dim, 1.0), codes_(distinct) {
  // Weights or none: the centre is a matter of speed alone.
  choose_centre(codewords, stride, dim, distinct, nullptr, centre_.data());
  std::vector<double> squared_norms = choose_scale(codewords, stride, distinct, weights);

  // Neighbours of like norm share a group, so that a few large codewords do not loosen the bound of all others.
  std::vector<uint32_t> order(distinct.size());
  std::iota(order.begin(), order.end(), 0u);
  std::stable_sort(order.begin(), order.end(),
                   [&](uint32_t a, uint32_t b) { return squared_norms[a] < squared_norms[b]; });
  std::vector<double> sorted_norms(order.size());
  for (size_t position = 0; position < order.size(); position++) {
    codes_[position] = distinct[order[position]];
    sorted_norms[position] = squared_norms[order[position]];
  }
  size_t groups = (distinct.size() + kGroupCodewords - 1) / kGroupCodewords;
  double largest = uniform_norm(sorted_norms, screens.uniform);
  if (screens.integers || largest > 0) {
    integers_.emplace(dim, groups, screens.integers, largest, screens.uniform == UniformUse::kOnTrial);
  }
  if (screens.bytes != nullptr) bytes_.emplace(*screens.bytes, dim, groups, screens.bytes_on_trial);
  fill_panels(codewords, stride, sorted_norms);
}

// Of the largest codeword, where it is not so large that most others would lose bits to it; else 0.
double PackedCodebook::uniform_norm(const std::vector<double>& squared_norms, UniformUse use) const {
  double median = squared_norms[squared_norms.size() / 2];
  bool like = squared_norms.back() <= kAlike * median;
  if (use == UniformUse::kNever || (use == UniformUse::kOnTrial && !like)) return 0;
  return bound_.norm(squared_norms.back());
}

// The power of two brings the largest norm into [½, 1): codebooks of 1e-30 or 1e30 neither underflow nor overflow.
std::vector<double> PackedCodebook::choose_scale(const float* codewords, size_t stride,
                                                 const std::vector<uint32_t>& distinct, const float* weights) {
  if (weights != nullptr) {
    for (size_t i = 0; i < scale_.size(); i++) scale_[i] = std::sqrt(static_cast<double>(weights[i]));
  }
  std::vector<double> squared_norms(distinct.size());
  double largest = 0;
  for (size_t k = 0; k < distinct.size(); k++) {
    squared_norms[k] = squared_norm_of(codewords + distinct[k] * stride, centre_, scale_);
    largest = std::max(largest, squared_norms[k]);
  }
  int exponent = 0;
  std::frexp(std::sqrt(largest), &exponent);
  squared_unit_ = std::ldexp(1.0, -2 * exponent);
  for (double& factor : scale_) factor = std::ldexp(factor, -exponent);
  for (double& squared_norm : squared_norms) squared_norm = std::ldexp(squared_norm, -2 * exponent);
  return squared_norms;
}

void PackedCodebook::fill_panels(const float* codewords, size_t stride, const std::vector<double>& squared_norms) {
  size_t dim = centre_.size();
  size_t groups = (codes_.size() + kGroupCodewords - 1) / kGroupCodewords;
  panels_ = AlignedArray<float>(groups * dim * kGroupCodewords);
  starts_.resize(groups * kGroupCodewords);
  norms_.resize(codes_.size());
  constants_.resize(codes_.size());
  float class_least = 0;
  std::vector<double> exact(kGroupCodewords * dim);  // The group before it is rounded.
  for (size_t group = 0; group < groups; group++) {
    float* panel = panels_.data() + group * dim * kGroupCodewords;
    for (size_t lane = 0; lane < kGroupCodewords; lane++) {
      size_t position = group * kGroupCodewords + lane;
      if (position >= codes_.size()) {
        for (size_t i = 0; i < dim; i++) exact[lane * dim + i] = panel[i * kGroupCodewords + lane] = 0;
        starts_[position] = kNoCodeword;
        continue;
      }
      const float* codeword = codewords + codes_[position] * stride;
      for (size_t i = 0; i < dim; i++) {
        double x = (static_cast<double>(codeword[i]) - centre_[i]) * scale_[i];
        exact[lane * dim + i] = x;
        panel[i * kGroupCodewords + lane] = static_cast<float>(x);
      }
      starts_[position] = static_cast<float>(-0.5 * squared_norms[position]);
      double norm = bound_.norm(squared_norms[position]);
      norms_[position] = static_cast<float>(norm * (1 + 0x1p-22));
      constants_[position] = bound_.codeword_constant(norm);
    }
    // In order of norm, the last codeword of a group has the loosest bound.
    size_t last = std::min(codes_.size(), (group + 1) * kGroupCodewords) - 1;
    group_norms_.push_back(norms_[last]);
    group_constants_.push_back(constants_[last]);
    if (integers_) integers_->add_group(exact.data(), bound_.norm(squared_norms[last]));
    if (bytes_) bytes_->add_group(exact.data(), bound_.norm(squared_norms[last]));

    // In order of norm here too: the last group's bound is the class's.
    if (classes_.empty() || group_norms_.back() > kLikeNorms * class_least) {
      class_least = group_norms_.back();
      classes_.push_back({group, group, 0, 0});
    }
    classes_.back() = {classes_.back().first_group, group + 1, group_norms_.back(), group_constants_.back()};
  }
}

size_t PackedCodebook::size_bytes() const {
  return panels_.size_bytes() + classes_.size() * sizeof(NormClass) + scale_.size() * sizeof(double) +
         codes_.size() * sizeof(uint32_t) +
         sizeof(float) * (centre_.size() + starts_.size() + 2 * norms_.size() + 2 * group_norms_.size()) +
         (integers_ ? integers_->size_bytes() : 0) + (bytes_ ? bytes_->size_bytes() : 0);
}

}  // namespace rvq::cpu
