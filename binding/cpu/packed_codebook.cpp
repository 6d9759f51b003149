// A stage's different codewords as the screen reads them: centre, scale, order and panels.

#include "packed_codebook.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "codeword_panels.h"

namespace rvq::cpu {

namespace {

// The score of a place without a codeword: below that of any codeword, and finite.
constexpr float kNoCodeword = -1e38f;
// Groups of a class: their norms differ by this factor at most, and with them the part of the bound that matters.
constexpr float kLikeNorms = 2;
// Codewords share one multiplier where the largest norm is at most eight times the median: three bits of fifteen.
constexpr double kAlike = 64;  // In squares.

// Those further from the mean of all are left out of a second mean: four times the median distance.
constexpr double kFar = 16;  // In squares.

// centre[i] = the mean of the codewords of these codes, rounded to float32. A mean of float32 values cannot overflow.
void mean_of(const float* codewords, size_t stride, const std::vector<uint32_t>& codes, std::vector<float>& centre) {
  std::vector<double> sum(centre.size(), 0.0);
  for (uint32_t k : codes) {
    const float* codeword = codewords + k * stride;
    for (size_t i = 0; i < sum.size(); i++) sum[i] += codeword[i];
  }
  double count = static_cast<double>(codes.size());
  for (size_t i = 0; i < sum.size(); i++) centre[i] = static_cast<float>(sum[i] / count);
}

// Of the codewords of these codes less the centre, times the scale.
std::vector<double> squared_norms_of(CodewordPanels& panels, const std::vector<uint32_t>& codes,
                                     const std::vector<float>& centre, const std::vector<double>& scale) {
  std::vector<double> squared_norms(codes.size());
  for (size_t first = 0; first < codes.size(); first += panels.stride()) {
    size_t count = std::min(panels.stride(), codes.size() - first);
    panels.pack(codes.data() + first, count, centre.data(), scale.data());
    std::copy_n(panels.squared_norms(), count, squared_norms.data() + first);
  }
  return squared_norms;
}

}  // namespace

PackedCodebook::PackedCodebook(const Kernels& kernels, const float* codewords, size_t stride, size_t dim,
                               const std::vector<uint32_t>& distinct, const float* weights,
                               const IntegerScreens& screens)
    : bound_(dim), centre_(dim), scale_(dim, 1.0), codes_(distinct) {
  CodewordPanels panels(kernels, codewords, stride, dim);
  std::vector<double> squared_norms = choose_centre(panels, codewords, stride);
  if (weights != nullptr) {
    for (size_t i = 0; i < dim; i++) scale_[i] = std::sqrt(static_cast<double>(weights[i]));
    squared_norms = squared_norms_of(panels, distinct, centre_, scale_);
  }
  choose_scale(squared_norms);

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
    integers_.emplace(*kernels.integers, dim, groups, screens.integers, largest,
                      screens.uniform == UniformUse::kOnTrial);
  }
  if (screens.bytes != nullptr) bytes_.emplace(*screens.bytes, dim, groups, screens.bytes_on_trial);
  fill_panels(panels, sorted_norms);
}

// Those far from the mean of all are left out of a second mean: otherwise one codeword of a million among ones of one
// would move the centre away from every other. Weights or none: the centre is a matter of speed alone.
std::vector<double> PackedCodebook::choose_centre(CodewordPanels& panels, const float* codewords, size_t stride) {
  mean_of(codewords, stride, codes_, centre_);
  std::vector<double> distances = squared_norms_of(panels, codes_, centre_, scale_);
  std::vector<double> sorted = distances;
  auto median = sorted.begin() + static_cast<std::ptrdiff_t>(sorted.size() / 2);
  std::nth_element(sorted.begin(), median, sorted.end());
  std::vector<uint32_t> near;
  for (size_t k = 0; k < codes_.size(); k++) {
    if (distances[k] <= kFar * *median) near.push_back(codes_[k]);
  }
  if (near.size() == codes_.size()) return distances;
  mean_of(codewords, stride, near, centre_);
  return squared_norms_of(panels, codes_, centre_, scale_);
}

// Of the largest codeword, where it is not so large that most others would lose bits to it; else 0.
double PackedCodebook::uniform_norm(const std::vector<double>& squared_norms, UniformUse use) const {
  double median = squared_norms[squared_norms.size() / 2];
  bool like = squared_norms.back() <= kAlike * median;
  if (use == UniformUse::kNever || (use == UniformUse::kOnTrial && !like)) return 0;
  return bound_.norm(squared_norms.back());
}

// The power of two brings the largest norm into [½, 1): codebooks of 1e-30 or 1e30 neither underflow nor overflow.
void PackedCodebook::choose_scale(std::vector<double>& squared_norms) {
  int exponent = 0;
  std::frexp(std::sqrt(*std::max_element(squared_norms.begin(), squared_norms.end())), &exponent);
  squared_unit_ = std::ldexp(1.0, -2 * exponent);
  for (double& factor : scale_) factor = std::ldexp(factor, -exponent);
  for (double& squared_norm : squared_norms) squared_norm *= squared_unit_;
}

// Codewords are packed like rows.
void PackedCodebook::fill_panels(CodewordPanels& panels, const std::vector<double>& squared_norms) {
  size_t dim = centre_.size();
  size_t stride = panels.stride();
  size_t groups = (codes_.size() + kGroupCodewords - 1) / kGroupCodewords;
  panels_ = AlignedArray<float>(groups * dim * kGroupCodewords);
  starts_.assign(groups * kGroupCodewords, kNoCodeword);
  norms_.resize(codes_.size());
  constants_.resize(codes_.size());
  for (size_t position = 0; position < codes_.size(); position++) {
    starts_[position] = static_cast<float>(-0.5 * squared_norms[position]);
    double norm = bound_.norm(squared_norms[position]);
    norms_[position] = static_cast<float>(norm * (1 + 0x1p-22));
    constants_[position] = bound_.codeword_constant(norm);
  }

  QuantisedCodewords scratch(dim, stride);
  std::vector<double> norms;  // of the groups of a panel
  for (size_t first = 0; first < codes_.size(); first += stride) {
    panels.pack(codes_.data() + first, std::min(stride, codes_.size() - first), centre_.data(), scale_.data());
    norms.clear();
    for (size_t from = first; from < std::min(first + stride, codes_.size()); from += kGroupCodewords) {
      panels.copy_group(from - first, panels_.data() + from * dim);
      // In order of norm, the last codeword of a group has the loosest bound.
      size_t last = std::min(codes_.size(), from + kGroupCodewords) - 1;
      group_norms_.push_back(norms_[last]);
      group_constants_.push_back(constants_[last]);
      norms.push_back(bound_.norm(squared_norms[last]));
    }
    if (integers_) integers_->add_groups(panels.panel(), norms, scratch);
    if (bytes_) bytes_->add_groups(panels.panel(), norms, scratch);
  }
  choose_classes();
}

void PackedCodebook::choose_classes() {
  float least = 0;
  for (size_t group = 0; group < group_norms_.size(); group++) {
    if (classes_.empty() || group_norms_[group] > kLikeNorms * least) {
      least = group_norms_[group];
      classes_.push_back({group, group, 0, 0});
    }
    // In order of norm here too: the last group's bound is the class's.
    classes_.back() = {classes_.back().first_group, group + 1, group_norms_[group], group_constants_[group]};
  }
}

size_t PackedCodebook::size_bytes() const {
  return panels_.size_bytes() + classes_.size() * sizeof(NormClass) + scale_.size() * sizeof(double) +
         codes_.size() * sizeof(uint32_t) +
         sizeof(float) * (centre_.size() + starts_.size() + 2 * norms_.size() + 2 * group_norms_.size()) +
         (integers_ ? integers_->size_bytes() : 0) + (bytes_ ? bytes_->size_bytes() : 0);
}

}  // namespace rvq::cpu
