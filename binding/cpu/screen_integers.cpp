// The screens by integers of 8 and 16 bits: what they quantise, what they leave open, and whether they pay.

#include <algorithm>
#include <bit>
#include <limits>

#include "screen.h"

namespace rvq::cpu {

namespace {

// Rows with norms so many times that of the largest codeword leave too few bits to the codewords.
constexpr double kFarRows = 4;

constexpr double kNoLimit = std::numeric_limits<double>::infinity();

}  // namespace

bool Screen::run_int16(size_t count) {
  const IntegerCodebook& integers = *codebook_->integers();
  if (!few_for_integers(count)) {
    if (integers.uniform() != nullptr && run_uniform(count)) return true;
    if (!integers.own()) return false;
  }
  quantise_rows();
  screen_integers(count, Precision::kInt16, kNoLimit);
  return true;
}

bool Screen::run_uniform(size_t count) {
  const IntegerCodebook& integers = *codebook_->integers();
  ScreenTrial* trial = integers.trial();
  ScreenTrial::Turn turn = trial == nullptr ? ScreenTrial::Turn::kYes : trial->take();
  if (turn == ScreenTrial::Turn::kNo) return false;
  double saved = static_cast<double>(count) * integers.saved(codebook_->size());
  if (!quantise_uniform(*integers.uniform(), count)) {
    // Some rows far away say nothing about the others, but a probe must end.
    if (turn == ScreenTrial::Turn::kProbe) trial->report(turn, 2 * saved, saved);
    return false;
  }
  double most = trial == nullptr ? kNoLimit : ScreenTrial::kHopeless * saved;
  double cost = screen_uniform(count, most);

  rows_again_.clear();
  for (size_t row = 0; row < count && cost <= most; row++) {
    if (shortlists_[row].verdict != Verdict::kUnknown || norms_[row] == 0) continue;
    rows_again_.push_back(row);
    cost += integers.row_cost(codebook_->size());
  }
  if (trial != nullptr) trial->report(turn, cost, saved);
  return finish(count, cost <= most);
}

// The float32 screen's bounds stay as they are, for the codewords that this one leaves.
bool Screen::quantise_uniform(const UniformCodewords& codewords, size_t count) {
  double largest = 0;
  for (size_t row = 0; row < count; row++) largest = std::max(largest, norms_[row]);
  if (largest > kFarRows * codewords.norm) return false;
  float multiplier = codewords.bound.row_multiplier(largest, codewords.norm);
  std::fill_n(multipliers_.data(), stride_, multiplier);
  kernels_.integers->quantise_rows(
      {panel_.data(), codebook_->view().dim, stride_, multipliers_.data(), words_.data(), squared_errors_.data()});
  bound_integers(codebook_->integers()->bound());

  uniform_unit_ = multiplier * codewords.multiplier;
  auto least = static_cast<float>((1 + 0x1p-20) / uniform_unit_);
  for (size_t lane = 0; lane < stride_; lane++) {
    bounds_[lane] = integer_slopes_[lane] * codewords.norm +
                    (row_reaches_[lane] * codewords.error + (codewords.constant + (row_constants_[lane] + least)));
  }
  return true;
}

double Screen::screen_uniform(size_t count, double most) {
  double cost = 0;
  size_t groups = codebook_->num_groups();
  for (size_t first = 0; first < groups && cost <= most; first += kChunkGroups) {
    size_t last = std::min(groups, first + kChunkGroups);
    forget_ends();
    kernels_.integers->integer_starts({codebook_->view().starts + first * kGroupCodewords,
                                       (last - first) * kGroupCodewords, static_cast<float>(uniform_unit_),
                                       integer_starts_.data()});
    kernels_.integers->screen_uniform({codebook_->integer_view(), integer_starts_.data(), first, last, words_.data(),
                                       stride_, static_cast<float>(1 / uniform_unit_), tile_ends(0)});
    cost += IntegerCodebook::kOpenGroupCost * static_cast<double>(note_groups(first, last, count));
  }
  return cost;
}

bool Screen::run_int8(size_t count) {
  if (kernels_.bytes->screen_rows == nullptr && few_for_integers(count)) return false;
  const ByteCodebook& bytes = *codebook_->bytes();
  ScreenTrial* trial = bytes.trial();
  ScreenTrial::Turn turn = trial == nullptr ? ScreenTrial::Turn::kYes : trial->take();
  if (turn == ScreenTrial::Turn::kNo) return false;
  quantise_bytes();
  double saved = static_cast<double>(count) * bytes.saved(codebook_->size());
  double most = trial == nullptr ? kNoLimit : ScreenTrial::kHopeless * saved;
  double cost = screen_integers(count, Precision::kInt8, most);

  rows_again_.clear();
  for (size_t row = 0; row < count && cost <= most; row++) {
    Shortlist& shortlist = shortlists_[row];
    drop_late(row);
    if (shortlist.size > 1) cost += bytes.candidate_cost() * shortlist.size;
    // Rows with too many candidates for bytes have few in float32.
    if (shortlist.verdict != Verdict::kUnknown || norms_[row] == 0) continue;
    rows_again_.push_back(row);
    cost += bytes.row_cost(codebook_->size());
  }
  if (trial != nullptr) trial->report(turn, cost, saved);
  return finish(count, cost <= most);
}

bool Screen::finish(size_t count, bool pays) {
  if (!pays) {
    bound_rows(count);
    return false;
  }
  for (size_t row : rows_again_) {
    shortlists_[row].verdict = Verdict::kCandidates;
    shortlists_[row].size = 0;
    lower_[row] = -std::numeric_limits<float>::infinity();
    screen_float32_row(row);
  }
  return true;
}

void Screen::quantise_rows() {
  const IntegerBound& bound = codebook_->integers()->bound();
  for (size_t lane = 0; lane < stride_; lane++) {
    multipliers_[lane] = bound.row_multiplier(norms_[lane]);
    row_factors_[lane] = 1 / multipliers_[lane];
  }
  kernels_.integers->quantise_rows(
      {panel_.data(), codebook_->view().dim, stride_, multipliers_.data(), words_.data(), squared_errors_.data()});
  bound_integers(bound);
}

void Screen::quantise_bytes() {
  const ByteBound& bound = codebook_->bytes()->bound();
  size_t dim = codebook_->view().dim;
  kernels_.bytes->measure({panel_.data(), dim, stride_, largest_.data(), half_squares_.data()});
  for (size_t lane = 0; lane < stride_; lane++) {
    multipliers_[lane] = bound.multiplier(largest_[lane], half_squares_[lane]);
    row_factors_[lane] = 1 / multipliers_[lane];
  }
  kernels_.bytes->quantise_rows(
      {panel_.data(), dim, stride_, multipliers_.data(), words_.data(), row_starts_.data(), squared_errors_.data()});
  bound_integers(bound.integers());
}

void Screen::bound_integers(const IntegerBound& bound) {
  for (size_t lane = 0; lane < stride_; lane++) {
    // Rows that are not screened may hold anything.
    double error = norms_[lane] > 0 ? bound.error(norms_[lane], multipliers_[lane], squared_errors_[lane]) : 0;
    integer_slopes_[lane] = bound.row_slope(norms_[lane], error);
    row_reaches_[lane] = bound.row_reach(norms_[lane], error);
  }
}

double Screen::screen_integers(size_t count, Precision precision, double most) {
  return few_for_integers(count) ? screen_integer_rows(count, precision) : screen_integer_tile(count, precision, most);
}

double Screen::screen_integer_tile(size_t count, Precision precision, double most) {
  auto screen = precision == Precision::kInt8 ? kernels_.bytes->screen_tile : kernels_.integers->screen_tile;
  double hit_cost = precision == Precision::kInt8 ? kernels_.bytes->costs.hit : 0;
  IntegerCodewords view = integer_view(precision);
  double cost = 0;
  size_t groups = codebook_->num_groups();
  for (size_t first = 0; first < groups; first += kIntegerChunkGroups) {
    size_t last = std::min(groups, first + kIntegerChunkGroups);
    screen({view, first, last, words_.data(), stride_, row_starts_.data(), row_factors_.data(), integer_slopes_.data(),
            row_reaches_.data(), row_constants_.data(), upper_.data(), lower_.data(), scores_.data()});
    size_t hits = kernels_.collect(upper_.data(), lower_.data(), last - first, stride_, hits_.data());
    for (size_t h = 0; h < hits; h++) {
      auto [group, row] = hits_[h];
      if (row >= count || shortlists_[row].verdict != Verdict::kCandidates) continue;
      cost += hit_cost;
      if (cost > most) return cost;
      add_codewords(row, first + group, view, scores_.data() + group * kGroupCodewords * stride_ + row);
    }
  }
  return cost;
}

double Screen::screen_integer_rows(size_t count, Precision precision) {
  auto screen = precision == Precision::kInt8 ? kernels_.bytes->screen_rows : kernels_.integers->screen_rows;
  size_t lanes = kernels_.lanes;
  size_t groups = codebook_->num_groups();
  for (size_t first = 0; first < groups; first += kIntegerChunkGroups) {
    size_t last = std::min(groups, first + kIntegerChunkGroups);
    size_t positions = (last - first) * kGroupCodewords;
    size_t registers = (positions + lanes - 1) / lanes;
    float* upper = scores_.data();
    screen({integer_view(precision), first, last, words_.data(), stride_, count, row_starts_.data(),
            row_factors_.data(), integer_slopes_.data(), row_reaches_.data(), row_constants_.data(), upper,
            registers * lanes, lower_.data()});
    for (size_t row = 0; row < count; row++, upper += registers * lanes) {
      std::fill_n(upper + positions, registers * lanes - positions, -std::numeric_limits<float>::infinity());
      std::fill_n(thresholds_.data(), lanes, lower_[row]);
      size_t hits = kernels_.collect(upper, thresholds_.data(), registers, lanes, hits_.data());
      for (size_t h = 0; h < hits; h++) {
        size_t position = hits_[h].group * lanes + hits_[h].row;
        add(row, first * kGroupCodewords + position, 1, upper[position]);
      }
    }
  }
  return 0;
}

void Screen::add_codewords(size_t row, size_t group, const IntegerCodewords& view, const float* scores) {
  float bound = integer_slopes_[row] * view.group_norms[group] +
                (row_reaches_[row] * view.group_errors[group] + (view.group_constants[group] + row_constants_[row]));
  float upper[kGroupCodewords];
  // Without branches: they would guess wrong once a group.
  unsigned reaching = 0;
  for (unsigned c = 0; c < kGroupCodewords; c++) {
    upper[c] = scores[c * stride_] + bound;
    reaching |= static_cast<unsigned>(upper[c] >= lower_[row]) << c;
  }
  for (; reaching != 0; reaching &= reaching - 1) {
    auto c = static_cast<unsigned>(std::countr_zero(reaching));
    add(row, group * kGroupCodewords + c, 1, upper[c]);
  }
}

IntegerCodewords Screen::integer_view(Precision precision) const {
  return precision == Precision::kInt8 ? codebook_->byte_view() : codebook_->integer_view();
}

}  // namespace rvq::cpu
