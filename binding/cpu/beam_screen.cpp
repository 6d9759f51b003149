// Screens hypotheses in three steps: scores of all groups, the groups within reach of a vector's threshold, their
// codewords.

#include "beam_screen.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

namespace rvq::cpu {

namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

// As in screen.h: the upper ends of a chunk of groups, or all of their scores from integers, stay in the cache.
constexpr size_t kChunkGroups = 1024;
constexpr size_t kIntegerChunkGroups = 64;

// As in screen_integers.cpp.
constexpr double kFarRows = 4;
// A tile with more groups within reach by uniform integers, beyond those that are wanted, is screened again in float32.
constexpr size_t kMostHitsOfRow = 4;

// The best groups of a row that thresholds come from, at most.
constexpr size_t kMostPlaces = 8;

// Four lanes of a tile: a register of every processor, and a divisor of every kernel's lanes.
typedef float Four __attribute__((vector_size(16)));

// best[j][lane] = the (j + 1)-th largest of upper[groups][lane], for j < kPlaces: in registers from the first group on.
template <size_t kPlaces>
void find_places(const float* upper, size_t groups, size_t stride, float* best) {
  for (size_t first = 0; first < stride; first += 4) {
    Four top[kPlaces];
    for (Four& place : top) place = Four{-kInfinity, -kInfinity, -kInfinity, -kInfinity};
    for (size_t group = 0; group < groups; group++) {
      Four end;
      std::memcpy(&end, upper + group * stride + first, sizeof end);
#pragma GCC unroll 8
      for (size_t place = 0; place < kPlaces; place++) {
        Four larger = end > top[place] ? end : top[place];
        end = end > top[place] ? top[place] : end;
        top[place] = larger;
      }
    }
    for (size_t place = 0; place < kPlaces; place++) {
      std::memcpy(best + place * stride + first, &top[place], sizeof(Four));
    }
  }
}

template <size_t kPlaces = kMostPlaces>
void find_best_places(const float* upper, size_t groups, size_t stride, size_t places, float* best) {
  if (places == kPlaces) return find_places<kPlaces>(upper, groups, stride, best);
  if constexpr (kPlaces > 1) find_best_places<kPlaces - 1>(upper, groups, stride, places, best);
}

// A vector with more candidates than this for every child that is kept is compared with all codewords.
constexpr size_t kMostCandidates = 1024;

size_t round_up(size_t n, size_t multiple) { return (n + multiple - 1) / multiple * multiple; }

// A float32 at most x.
float at_most(double x) { return static_cast<float>(x - (std::fabs(x) * 0x1p-22 + 0x1p-120)); }

}  // namespace

BeamScreen::BeamScreen(const Kernels& kernels, size_t max_vectors, size_t max_rows, size_t beam, size_t padded_dim,
                       size_t max_groups)
    : kernels_(kernels), beam_(beam), open_(max_vectors), owners_(max_rows) {
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
  best_ = AlignedArray<float>(kMostPlaces * stride);
  if (kernels.integers == nullptr) return;
  pairs_ = AlignedArray<uint32_t>((padded_dim + 1) / 2 * stride);
  multipliers_ = AlignedArray<float>(stride);
  squared_errors_ = AlignedArray<float>(stride);
  row_factors_ = AlignedArray<float>(stride);
  integer_slopes_ = AlignedArray<float>(stride);
  row_reaches_ = AlignedArray<float>(stride);
  scores_ = AlignedArray<float>(kIntegerChunkGroups * kGroupCodewords * stride);
  integer_starts_ = AlignedArray<int32_t>(chunk * kGroupCodewords);
}

void BeamScreen::run(const PackedCodebook& codebook, const float* rows, size_t padded_dim, const uint32_t* first_rows,
                     size_t vectors) {
  codebook_ = &codebook;
  for (size_t v = 0; v < vectors; v++) {
    open_[v].all = false;
    open_[v].threshold = -std::numeric_limits<double>::infinity();
    open_[v].lower.clear();
    open_[v].candidates.clear();
    for (size_t row = first_rows[v]; row < first_rows[v + 1]; row++) {
      owners_[row] = static_cast<uint32_t>(v);
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
  const IntegerCodebook* integers = codebook_->integers();
  auto precision = Precision::kFloat32;
  if (integers != nullptr && integers->own()) {
    precision = Precision::kInt16;
    quantise_rows();
  } else if (integers != nullptr && integers->uniform() != nullptr && quantise_uniform(count)) {
    precision = Precision::kUniform;
  }

  size_t groups = codebook_->num_groups();
  size_t chunk = precision == Precision::kInt16 ? kIntegerChunkGroups : kChunkGroups;
  for (size_t first = 0; first < groups; first += chunk) {
    size_t last = std::min(groups, first + chunk);
    screen_groups(precision, first, last);
    raise_thresholds(precision, last - first, count, first_row, first_rows);
    size_t hits = kernels_.collect(upper_.data(), thresholds_.data(), last - first, stride_, hits_.data());
    size_t vectors = owners_[first_row + count - 1] - owners_[first_row] + 1;
    if (precision == Precision::kUniform && hits > kMostHitsOfRow * count + 2 * beam_ * vectors) {
      // Thresholds that were raised stay true.
      precision = Precision::kFloat32;
      screen_groups(precision, first, last);
      raise_thresholds(precision, last - first, count, first_row, first_rows);
      hits = kernels_.collect(upper_.data(), thresholds_.data(), last - first, stride_, hits_.data());
    }
    for (size_t h = 0; h < hits; h++) {
      auto [group, lane] = hits_[h];
      if (lane < count && screened_[lane]) add_group(precision, lane, first_row + lane, first + group, first);
    }
  }
}

void BeamScreen::screen_groups(Precision precision, size_t first, size_t last) {
  std::fill_n(largest_upper_.data(), stride_, -kInfinity);
  std::fill_n(second_upper_.data(), stride_, -kInfinity);
  switch (precision) {
    case Precision::kFloat32:
      return screen_float32(first, last);
    case Precision::kInt16:
      return screen_integers(first, last);
    case Precision::kUniform:
      return screen_uniform(first, last);
  }
}

// Classes come in the order of their norms: the last one's bound is the largest.
void BeamScreen::screen_float32(size_t first, size_t last) {
  codebook_->for_each_class(first, last, [&](const NormClass& norm_class) {
    for (size_t lane = 0; lane < stride_; lane++) {
      bounds_[lane] = row_slopes_[lane] * norm_class.norm + (norm_class.constant + row_constants_[lane]);
    }
    kernels_.screen_tile({codebook_->view(), norm_class.first_group, norm_class.last_group, panel_.data(), stride_,
                          tile_ends(upper_.data() + (norm_class.first_group - first) * stride_)});
  });
}

void BeamScreen::screen_integers(size_t first, size_t last) {
  IntegerCodewords view = codebook_->integer_view();
  kernels_.integers->screen_tile({view, first, last, pairs_.data(), stride_, nullptr, row_factors_.data(),
                                  integer_slopes_.data(), row_reaches_.data(), row_constants_.data(), upper_.data(),
                                  lower_.data(), scores_.data()});
  float norm = *std::max_element(view.group_norms + first, view.group_norms + last);
  float error = *std::max_element(view.group_errors + first, view.group_errors + last);
  float constant = *std::max_element(view.group_constants + first, view.group_constants + last);
  for (size_t lane = 0; lane < stride_; lane++) {
    bounds_[lane] = integer_slopes_[lane] * norm + (row_reaches_[lane] * error + (constant + row_constants_[lane]));
  }
}

void BeamScreen::screen_uniform(size_t first, size_t last) {
  const UniformCodewords& codewords = *codebook_->integers()->uniform();
  auto least = static_cast<float>((1 + 0x1p-20) / uniform_unit_);
  for (size_t lane = 0; lane < stride_; lane++) {
    bounds_[lane] = integer_slopes_[lane] * codewords.norm +
                    (row_reaches_[lane] * codewords.error + (codewords.constant + (row_constants_[lane] + least)));
  }
  kernels_.integers->integer_starts({codebook_->view().starts + first * kGroupCodewords,
                                     (last - first) * kGroupCodewords, static_cast<float>(uniform_unit_),
                                     integer_starts_.data()});
  kernels_.integers->screen_uniform({codebook_->integer_view(), integer_starts_.data(), first, last, pairs_.data(),
                                     stride_, static_cast<float>(1 / uniform_unit_), tile_ends(upper_.data())});
}

TileEnds BeamScreen::tile_ends(float* upper) {
  return {bounds_.data(), upper, lower_.data(), largest_upper_.data(), second_upper_.data(), winners_.data()};
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
  quantise_panel();
}

// By the lanes' multipliers.
void BeamScreen::quantise_panel() {
  const IntegerBound& bound = codebook_->integers()->bound();
  kernels_.integers->quantise_rows(
      {panel_.data(), codebook_->view().dim, stride_, multipliers_.data(), pairs_.data(), squared_errors_.data()});
  for (size_t lane = 0; lane < stride_; lane++) {
    // Rows that are not screened may hold anything.
    double error = norms_[lane] > 0 ? bound.error(norms_[lane], multipliers_[lane], squared_errors_[lane]) : 0;
    integer_slopes_[lane] = bound.row_slope(norms_[lane], error);
    row_reaches_[lane] = bound.row_reach(norms_[lane], error);
  }
}

// As in screen_integers.cpp.
bool BeamScreen::quantise_uniform(size_t count) {
  const UniformCodewords& codewords = *codebook_->integers()->uniform();
  double largest = 0;
  for (size_t row = 0; row < count; row++) largest = std::max(largest, norms_[row]);
  if (largest > kFarRows * codewords.norm) return false;
  float multiplier = codewords.bound.row_multiplier(largest, codewords.norm);
  std::fill_n(multipliers_.data(), stride_, multiplier);
  uniform_unit_ = multiplier * codewords.multiplier;
  quantise_panel();
  return true;
}

// Where two places are enough, the kernels that keep a row's two largest upper ends of codewords have found them.
void BeamScreen::raise_thresholds(Precision precision, size_t groups, size_t count, size_t first_row,
                                  const uint32_t* first_rows) {
  size_t most = 0;
  bool two_are_known = precision != Precision::kInt16;
  for (size_t lane = 0; lane < count;) {
    size_t v = owners_[first_row + lane];
    size_t end = std::min<size_t>(count, first_rows[v + 1] - first_row);
    size_t places = std::min({kMostPlaces, groups, beam_ / (end - lane) + 1});
    bool known = two_are_known && places <= 2;
    if (!known && places > most) find_best(groups, most = places);

    Open& open = open_[v];
    ends_.clear();
    for (size_t row = lane; row < end; row++) {
      if (!screened_[row]) continue;
      double shift = 2.0 * bounds_[row] + half_squares_[row] + slacks_[row];
      if (known) {
        ends_.push_back(largest_upper_[row] - shift);
        ends_.push_back(second_upper_[row] - shift);
        continue;
      }
      for (size_t place = 0; place < places; place++) ends_.push_back(best_[place * stride_ + row] - shift);
    }
    if (ends_.size() >= beam_) {
      auto nth = ends_.begin() + static_cast<std::ptrdiff_t>(beam_ - 1);
      std::nth_element(ends_.begin(), nth, ends_.end(), std::greater<>());
      open.threshold = std::max(open.threshold, *nth);
    }
    for (; lane < end; lane++) {
      thresholds_[lane] = open.all || !screened_[lane] ? kInfinity : lane_threshold(lane, open.threshold);
    }
  }
  std::fill(thresholds_.data() + count, thresholds_.data() + stride_, kInfinity);
}

void BeamScreen::find_best(size_t groups, size_t places) {
  find_best_places(upper_.data(), groups, stride_, places, best_.data());
}

// A float32 that upper ends of the lane reach wherever they reach the threshold.
float BeamScreen::lane_threshold(size_t lane, double threshold) const {
  return at_most(threshold + half_squares_[lane] - slacks_[lane]);
}

void BeamScreen::add_group(Precision precision, size_t lane, size_t row, size_t group, size_t first_group) {
  Open& open = open_[owners_[row]];
  if (open.all) return;
  float scores[kGroupCodewords];
  float bounds[kGroupCodewords];
  size_t first = group * kGroupCodewords;
  size_t codewords = std::min(codebook_->size() - first, kGroupCodewords);
  if (precision == Precision::kInt16) {
    IntegerCodewords view = codebook_->integer_view();
    float bound =
        integer_slopes_[lane] * view.group_norms[group] +
        (row_reaches_[lane] * view.group_errors[group] + (view.group_constants[group] + row_constants_[lane]));
    const float* column = scores_.data() + (group - first_group) * kGroupCodewords * stride_ + lane;
    for (size_t c = 0; c < kGroupCodewords; c++) {
      scores[c] = column[c * stride_];
      bounds[c] = bound;
    }
  } else {
    kernels_.score_group(codebook_->view(), group, panel_.data(), stride_, lane, scores);
    for (size_t c = 0; c < codewords; c++) {
      bounds[c] =
          row_slopes_[lane] * codebook_->norm(first + c) + (codebook_->constant(first + c) + row_constants_[lane]);
    }
  }

  float threshold = lane_threshold(lane, open.threshold);
  for (size_t c = 0; c < codewords; c++) {
    if (scores[c] + bounds[c] >= threshold) add(open, lane, row, first + c, scores[c], bounds[c]);
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
