// Screens hypotheses in three steps: scores of all groups, the groups within reach of a vector's threshold, their
// codewords.

#include "beam_screen.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace rvq::cpu {

namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

// As in screen.cpp: the upper ends of a chunk of groups, or all of their scores from integers, stay in the cache.
constexpr size_t kChunkGroups = 1024;
constexpr size_t kIntegerChunkGroups = 64;

// A vector with more candidates than this for every child that is kept is compared with all codewords.
constexpr size_t kMostCandidates = 1024;

size_t round_up(size_t n, size_t multiple) { return (n + multiple - 1) / multiple * multiple; }

// A float32 at most x.
float at_most(double x) { return static_cast<float>(x - (std::fabs(x) * 0x1p-22 + 0x1p-120)); }

}  // namespace

BeamScreen::BeamScreen(const Kernels& kernels, size_t max_vectors, size_t max_rows, size_t beam, size_t padded_dim,
                       size_t max_groups)
    : kernels_(kernels), beam_(beam), open_(max_vectors), owners_(max_rows), best_lower_(max_rows) {
  size_t stride = round_up(std::min(max_rows, kernels.tile_rows), kernels.lanes);
  screened_.resize(stride);
  norms_.resize(stride);
  half_squares_.resize(stride);
  slacks_.resize(stride);
  panel_ = AlignedArray<float>(padded_dim * stride);
  squared_norms_ = AlignedArray<double>(stride);
  row_slopes_ = AlignedArray<float>(stride);
  row_constants_ = AlignedArray<float>(stride);
  bounds_ = AlignedArray<float>(stride);
  largest_upper_ = AlignedArray<float>(stride);
  second_upper_ = AlignedArray<float>(stride);
  winners_ = AlignedArray<uint32_t>(stride);
  thresholds_ = AlignedArray<float>(stride);
  lower_ = AlignedArray<float>(stride);
  size_t chunk = std::min(max_groups, kChunkGroups);
  upper_ = AlignedArray<float>(chunk * stride);
  hits_ = AlignedArray<Hit>(chunk * stride);
  if (kernels.integers == nullptr) return;
  pairs_ = AlignedArray<uint32_t>((padded_dim + 1) / 2 * stride);
  multipliers_ = AlignedArray<float>(stride);
  squared_errors_ = AlignedArray<float>(stride);
  row_factors_ = AlignedArray<float>(stride);
  integer_slopes_ = AlignedArray<float>(stride);
  row_reaches_ = AlignedArray<float>(stride);
  scores_ = AlignedArray<float>(kIntegerChunkGroups * kGroupCodewords * stride);
}

void BeamScreen::run(const PackedCodebook& codebook, const float* rows, size_t padded_dim, const uint32_t* first_rows,
                     size_t vectors) {
  codebook_ = &codebook;
  integers_ = codebook.integers() != nullptr;
  for (size_t v = 0; v < vectors; v++) {
    open_[v].all = false;
    open_[v].threshold = -std::numeric_limits<double>::infinity();
    open_[v].lower.clear();
    open_[v].candidates.clear();
    for (size_t row = first_rows[v]; row < first_rows[v + 1]; row++) {
      owners_[row] = static_cast<uint32_t>(v);
      best_lower_[row] = -std::numeric_limits<double>::infinity();
    }
  }
  for (size_t first = 0; first < first_rows[vectors]; first += kernels_.tile_rows) {
    size_t count = std::min<size_t>(kernels_.tile_rows, first_rows[vectors] - first);
    screen_tile(rows + first * padded_dim, count, padded_dim, first, first_rows);
  }
}

void BeamScreen::screen_tile(const float* rows, size_t count, size_t padded_dim, size_t first_row,
                             const uint32_t* first_rows) {
  stride_ = round_up(count, kernels_.lanes);
  kernels_.pack_rows({rows, count, padded_dim, codebook_->view().dim, codebook_->centre(), codebook_->scale(), stride_,
                      panel_.data(), squared_norms_.data()});
  bound_rows(count, first_row);
  if (integers_) quantise_rows();

  size_t groups = codebook_->num_groups();
  size_t chunk = integers_ ? kIntegerChunkGroups : kChunkGroups;
  for (size_t first = 0; first < groups; first += chunk) {
    size_t last = std::min(groups, first + chunk);
    if (integers_) {
      screen_integers(first, last);
    } else {
      screen_float32(first, last);
    }
    set_thresholds(count, first_row, first_rows);
    size_t hits = kernels_.collect(upper_.data(), thresholds_.data(), last - first, stride_, hits_.data());
    for (size_t h = 0; h < hits; h++) {
      auto [group, lane] = hits_[h];
      if (lane < count && screened_[lane]) add_group(lane, first_row + lane, first + group, first);
    }
  }
}

void BeamScreen::bound_rows(size_t count, size_t first_row) {
  const ErrorBound& bound = codebook_->bound();
  double rounding = static_cast<double>(codebook_->view().dim + 32) * 0x1p-53 * (1 + 0x1p-20);
  for (size_t lane = 0; lane < stride_; lane++) {
    lower_[lane] = -kInfinity;
    double norm = lane < count ? bound.norm(squared_norms_[lane]) : 0;
    screened_[lane] = lane < count && norm <= ErrorBound::kLargestRowNorm;
    // A row that is not finite has a single child, which needs no screen; one that is too long may have them all.
    if (lane < count && !screened_[lane] && std::isfinite(squared_norms_[lane])) {
      open_[owners_[first_row + lane]].all = true;
    }
    if (!screened_[lane]) norm = 0;
    norms_[lane] = norm;
    half_squares_[lane] = 0.5 * squared_norms_[lane];
    slacks_[lane] = rounding * 0.5 * (norm + 1) * (norm + 1);
    row_slopes_[lane] = bound.row_slope(norm);
    row_constants_[lane] = bound.row_constant(norm);
  }
}

void BeamScreen::quantise_rows() {
  const IntegerBound& bound = codebook_->integers()->bound();
  for (size_t lane = 0; lane < stride_; lane++) {
    multipliers_[lane] = bound.row_multiplier(norms_[lane]);
    row_factors_[lane] = 1 / multipliers_[lane];
  }
  kernels_.integers->quantise_rows(
      {panel_.data(), codebook_->view().dim, stride_, multipliers_.data(), pairs_.data(), squared_errors_.data()});
  for (size_t lane = 0; lane < stride_; lane++) {
    // Rows that are not screened may hold anything.
    double error = norms_[lane] > 0 ? bound.row_error(norms_[lane], multipliers_[lane], squared_errors_[lane]) : 0;
    integer_slopes_[lane] = bound.row_slope(norms_[lane], error);
    row_reaches_[lane] = bound.row_reach(norms_[lane], error);
  }
}

void BeamScreen::screen_float32(size_t first, size_t last) {
  std::fill_n(largest_upper_.data(), stride_, -kInfinity);
  std::fill_n(second_upper_.data(), stride_, -kInfinity);
  codebook_->for_each_class(first, last, [&](const NormClass& norm_class) {
    for (size_t lane = 0; lane < stride_; lane++) {
      bounds_[lane] = row_slopes_[lane] * norm_class.norm + (norm_class.constant + row_constants_[lane]);
    }
    kernels_.screen_tile({codebook_->view(), norm_class.first_group, norm_class.last_group, panel_.data(), stride_,
                          bounds_.data(), upper_.data() + (norm_class.first_group - first) * stride_, lower_.data(),
                          largest_upper_.data(), second_upper_.data(), winners_.data()});
  });
}

void BeamScreen::screen_integers(size_t first, size_t last) {
  kernels_.integers->screen_tile({codebook_->integer_view(), first, last, pairs_.data(), stride_, nullptr,
                                  row_factors_.data(), integer_slopes_.data(), row_reaches_.data(),
                                  row_constants_.data(), upper_.data(), lower_.data(), scores_.data()});
}

void BeamScreen::set_thresholds(size_t count, size_t first_row, const uint32_t* first_rows) {
  for (size_t lane = 0; lane < count; lane++) {
    if (screened_[lane]) best_lower_[first_row + lane] = lower_[lane] - half_squares_[lane] - slacks_[lane];
  }
  for (size_t lane = 0; lane < count;) {
    // As many rows as children are kept: each has a child at least as near as its best lower end says.
    size_t v = owners_[first_row + lane];
    Open& open = open_[v];
    if (first_rows[v + 1] - first_rows[v] >= beam_) {
      auto rows = best_lower_.begin();
      open.threshold = std::max(open.threshold, *std::min_element(rows + first_rows[v], rows + first_rows[v + 1]));
    }
    size_t end = std::min<size_t>(count, first_rows[v + 1] - first_row);
    for (; lane < end; lane++) {
      thresholds_[lane] = open.all ? kInfinity : at_most(open.threshold + half_squares_[lane] - slacks_[lane]);
    }
  }
  std::fill(thresholds_.data() + count, thresholds_.data() + stride_, kInfinity);
}

void BeamScreen::add_group(size_t lane, size_t row, size_t group, size_t first_group) {
  Open& open = open_[owners_[row]];
  if (open.all) return;
  size_t first = group * kGroupCodewords;
  size_t codewords = std::min(codebook_->size() - first, kGroupCodewords);
  if (integers_) {
    IntegerCodewords view = codebook_->integer_view();
    float bound =
        integer_slopes_[lane] * view.group_norms[group] +
        (row_reaches_[lane] * view.group_errors[group] + (view.group_constants[group] + row_constants_[lane]));
    const float* scores = scores_.data() + (group - first_group) * kGroupCodewords * stride_ + lane;
    for (size_t c = 0; c < codewords; c++) add(open, lane, row, first + c, scores[c * stride_], bound);
    return;
  }
  float scores[kGroupCodewords];
  kernels_.score_group(codebook_->view(), group, panel_.data(), stride_, lane, scores);
  for (size_t c = 0; c < codewords; c++) {
    size_t position = first + c;
    float bound =
        row_slopes_[lane] * codebook_->norm(position) + (codebook_->constant(position) + row_constants_[lane]);
    add(open, lane, row, position, scores[c], bound);
  }
}

void BeamScreen::add(Open& open, size_t lane, size_t row, size_t position, float score, float bound) {
  double upper = static_cast<double>(score + bound) - half_squares_[lane] + slacks_[lane];
  if (upper < open.threshold) return;
  open.candidates.push_back({upper, static_cast<uint32_t>(row), codebook_->code(position)});

  double lower = static_cast<double>(score - bound) - half_squares_[lane] - slacks_[lane];
  if (open.lower.size() == beam_) {
    if (lower <= open.lower.back()) return;
    open.lower.pop_back();
  }
  open.lower.insert(std::upper_bound(open.lower.begin(), open.lower.end(), lower, std::greater<>()), lower);
  if (open.lower.size() == beam_) open.threshold = std::max(open.threshold, open.lower.back());

  if (open.candidates.size() < beam_ + kMostCandidates) return;
  drop_late(open);
  open.all = open.candidates.size() > beam_ + kMostCandidates / 2;
}

void BeamScreen::drop_late(Open& open) const {
  std::erase_if(open.candidates, [&](const Candidate& candidate) { return candidate.upper < open.threshold; });
}

const std::vector<BeamScreen::Candidate>* BeamScreen::candidates(size_t vector) {
  Open& open = open_[vector];
  if (open.all) return nullptr;
  drop_late(open);
  return &open.candidates;
}

}  // namespace rvq::cpu
