// The screen by principal axes: upper bounds of all scores, then the distances of the codewords that they leave.

#include "prefix_screen.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "near_bound.h"

namespace rvq::cpu {

namespace {

// Their upper bounds take 24 to 48 KiB.
constexpr size_t kChunkGroups = 256;
constexpr uint32_t kNowhere = UINT32_MAX;

struct Interval {
  double lower;
  double upper;
};

// Where the canonical distance lies. Products that underflow in float32, or sums that overflow, are left to float64,
// and so are weights. Beyond `limit` any number beyond it will do.
Interval distance_interval(const Kernels& kernels, const SearchedCodewords& searched, const float* row,
                           const float* codeword, double limit) {
  NearBound bound(searched.padded_dim);
  if (searched.weights == nullptr && bound.usable) {
    double distance = kernels.rough_distance(row, codeword, searched.padded_dim);
    if (distance > 0x1p-40 * static_cast<double>(searched.padded_dim) && distance < 0x1p100) {
      return {distance / (1 + bound.gamma), distance / (1 - bound.gamma)};
    }
  }
  double distance = kernels.distance(row, codeword, searched.weights, searched.padded_dim, limit);
  return {distance, distance};
}

}  // namespace

PrefixScreen::PrefixScreen(const Kernels& kernels, size_t max_rows, size_t max_groups) : kernels_(kernels) {
  size_t stride = (max_rows + kernels.lanes - 1) / kernels.lanes * kernels.lanes;
  slopes_ = AlignedArray<float>(stride);
  constants_ = AlignedArray<float>(stride);
  size_t groups = std::min(max_groups, kChunkGroups);
  bounds_ = AlignedArray<float>(stride);
  lower_ = AlignedArray<float>(stride);
  largest_ = AlignedArray<float>(stride);
  second_ = AlignedArray<float>(stride);
  winners_ = AlignedArray<uint32_t>(stride);
  limits_ = AlignedArray<float>(stride);
  upper_ = AlignedArray<float>(groups * stride);
  hits_ = AlignedArray<Hit>(groups * stride);
  rows_ = AlignedArray<Row>(stride);
}

bool PrefixScreen::run(const PackedCodebook& packed, const PrefixCodebook& codebook, const PackedRowsView& rows) {
  ScreenTrial::Turn turn = codebook.trial().take();
  if (turn == ScreenTrial::Turn::kNo) return false;
  packed_ = &packed;
  codebook_ = &codebook;
  view_ = rows;
  prepare_rows();
  spent_ = 0;
  bool finished = true;
  for (size_t first = 0; finished && first < packed.num_groups(); first += kChunkGroups) {
    finished = screen_chunk(first, std::min(packed.num_groups(), first + kChunkGroups));
  }
  double saved = codebook.allowance() * static_cast<double>(rows.count);
  codebook.trial().report(turn, finished ? spent_ : 1 + ScreenTrial::kHopeless * saved, saved);
  return finished;
}

void PrefixScreen::prepare_rows() {
  size_t stride = view_.panel_stride;
  size_t axes = codebook_->axes();
  size_t needed = (codebook_->padded_axes() + 1) * stride;
  if (coefficients_.size() < needed) coefficients_ = AlignedArray<float>(needed);
  kernels_.project(codebook_->projection(view_.panel, stride, coefficients_.data()));
  const PrefixBound& bound = codebook_->bound();
  for (size_t lane = 0; lane < stride; lane++) {
    double norm = view_.norms[lane];
    double squared = 0;
    for (size_t axis = 0; axis < axes; axis++) {
      float& q = coefficients_[axis * stride + lane];
      if (norm == 0) q = 0;  // A lane that is not looked at may hold anything.
      squared += static_cast<double>(q) * q;
    }
    coefficients_[axes * stride + lane] = bound.remainder(norm, squared);
    slopes_[lane] = bound.row_slope(norm);
    constants_[lane] = bound.row_constant(norm);
    bool looked_at = lane < view_.count && norm > 0;
    limits_[lane] = looked_at ? -std::numeric_limits<float>::infinity() : std::numeric_limits<float>::infinity();
    rows_[lane].nearest = std::numeric_limits<double>::infinity();
    rows_[lane].size = 0;
    rows_[lane].too_many = false;
  }
}

bool PrefixScreen::screen_chunk(size_t first_group, size_t last_group) {
  size_t stride = view_.panel_stride;
  size_t groups = last_group - first_group;
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  std::fill_n(lower_.data(), stride, -kInfinity);
  std::fill_n(largest_.data(), stride, -kInfinity);
  std::fill_n(second_.data(), stride, -kInfinity);
  packed_->for_each_class(first_group, last_group, [&](const NormClass& norm_class) {
    for (size_t lane = 0; lane < stride; lane++) bounds_[lane] = bound(lane, norm_class.norm);
    kernels_.screen_tile({codebook_->view(), norm_class.first_group, norm_class.last_group, coefficients_.data(),
                          stride, bounds_.data(), upper_.data() + (norm_class.first_group - first_group) * stride,
                          lower_.data(), largest_.data(), second_.data(), winners_.data()});
  });

  // One codeword a row, likely to be near, for a limit that leaves few others.
  for (size_t row = 0; row < view_.count; row++) {
    bool within_reach = largest_[row] >= limits_[row] && winners_[row] < packed_->size();
    winners_[row] = within_reach ? winners_[row] : kNowhere;
    if (within_reach) look_at(row, winners_[row]);
  }

  size_t found = kernels_.collect(upper_.data(), limits_.data(), groups, stride, hits_.data());
  double allowance = codebook_->allowance() * static_cast<double>(view_.count);
  for (size_t h = 0; h < found; h++) {
    auto [group, row] = hits_[h];
    if (upper_[group * stride + row] < limits_[row]) continue;
    look_at_group(row, first_group + group);
    if (spent_ > allowance) return false;
  }
  return true;
}

void PrefixScreen::look_at_group(size_t row, size_t group) {
  float upper[kGroupCodewords];
  score(row, group, upper);
  spent_ += codebook_->group_cost();
  size_t count = std::min(packed_->size() - group * kGroupCodewords, kGroupCodewords);
  for (size_t c = 0; c < count; c++) {
    size_t position = group * kGroupCodewords + c;
    if (upper[c] < limits_[row] || position == winners_[row]) continue;
    look_at(row, position);
    spent_ += codebook_->codeword_cost();
  }
}

// Upper bounds of a group's scores; minus infinity where there is no codeword.
void PrefixScreen::score(size_t row, size_t group, float (&upper)[kGroupCodewords]) const {
  PackedCodewords codewords = codebook_->view();
  kernels_.score_group(codewords, group, coefficients_.data(), view_.panel_stride, row, upper);
  float error = bound(row, codewords.group_norms[group]);
  for (float& end : upper) end += error;
}

// E of a row and codewords of at most this norm.
float PrefixScreen::bound(size_t row, float norm) const {
  return slopes_[row] * norm + (codebook_->bound().codeword_constant(norm) + constants_[row]);
}

void PrefixScreen::look_at(size_t row, size_t position) {
  const SearchedCodewords& searched = codebook_->searched();
  Row& known = rows_[row];
  Interval interval =
      distance_interval(kernels_, searched, view_.rows + row * searched.padded_dim,
                        searched.elements + packed_->code(position) * searched.padded_dim, known.nearest);
  if (interval.lower > known.nearest) return;
  if (interval.upper < known.nearest) {
    known.nearest = interval.upper;
    // A codeword with 2·U < |X|² − nearest·s² is further; the roundings here are of float64, then one of float32.
    double squared = view_.squared_norms[row] * (1 - 0x1p-30);
    double reach = known.nearest * packed_->squared_unit() * (1 + 0x1p-30);
    double limit = 0.5 * (squared - reach);
    limits_[row] = static_cast<float>(limit - std::fabs(limit) * 0x1p-22 - 0x1p-140);
  }
  if (known.size == Row::kCapacity) {
    Row::Entry* end = std::remove_if(known.entries, known.entries + known.size,
                                     [&](const Row::Entry& entry) { return entry.lower > known.nearest; });
    known.size = static_cast<uint32_t>(end - known.entries);
    if (known.size == Row::kCapacity) {
      known.too_many = true;
      return;
    }
  }
  known.entries[known.size++] = {static_cast<uint32_t>(position), interval.lower};
}

void PrefixScreen::candidates(size_t row, std::vector<uint32_t>& codes) const {
  const Row& known = rows_[row];
  codes.clear();
  if (known.too_many) return;
  for (uint32_t e = 0; e < known.size; e++) {
    if (known.entries[e].lower <= known.nearest) codes.push_back(packed_->code(known.entries[e].position));
  }
}

}  // namespace rvq::cpu
