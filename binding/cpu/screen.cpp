// Screens a block of rows in three steps: scores of all groups, the groups within reach of the best, their codewords.

#include "screen.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>

namespace rvq::cpu {

namespace {

// Groups screened before their hits are collected: the upper ends of 48 rows then take 192 KiB, written once and mostly
// not read.
constexpr size_t kChunkGroups = 1024;
// The 16-bit screen keeps all scores of a chunk: 96 KiB for 48 rows.
constexpr size_t kIntegerChunkGroups = 64;

// For up to a third of a register of rows it is faster to put the codewords in the lanes; in integers up to half of it.
bool few(const Kernels& kernels, size_t count) { return 3 * count <= kernels.lanes; }
bool few_for_integers(const Kernels& kernels, size_t count) { return 2 * count <= kernels.lanes; }

constexpr double kNoLimit = std::numeric_limits<double>::infinity();

size_t round_up(size_t n, size_t multiple) { return (n + multiple - 1) / multiple * multiple; }

}  // namespace

Screen::Screen(const Kernels& kernels, size_t max_rows, size_t dim, size_t max_groups)
    : kernels_(kernels), prefix_screen_(kernels, max_rows, max_groups) {
  size_t stride = round_up(max_rows, kernels.lanes);
  panel_ = AlignedArray<float>(dim * stride);
  squared_norms_ = AlignedArray<double>(stride);
  row_slopes_ = AlignedArray<float>(stride);
  row_constants_ = AlignedArray<float>(stride);
  norms_.resize(stride);
  if (kernels.integers != nullptr || kernels.bytes != nullptr) {
    size_t words = (dim + 3) / 4;
    words_ = AlignedArray<uint32_t>((dim + 1) / 2 * stride);
    row_starts_ = AlignedArray<uint32_t>(words * stride);
    largest_ = AlignedArray<float>(stride);
    half_squares_ = AlignedArray<float>(stride);
    multipliers_ = AlignedArray<float>(stride);
    squared_errors_ = AlignedArray<float>(stride);
    row_factors_ = AlignedArray<float>(stride);
    integer_slopes_ = AlignedArray<float>(stride);
    row_reaches_ = AlignedArray<float>(stride);
    scores_ = AlignedArray<float>(kIntegerChunkGroups * kGroupCodewords * stride);
  }
  bounds_ = AlignedArray<float>(stride);
  largest_upper_ = AlignedArray<float>(stride);
  second_upper_ = AlignedArray<float>(stride);
  winners_ = AlignedArray<uint32_t>(stride);
  thresholds_ = AlignedArray<float>(stride);
  lower_ = AlignedArray<float>(stride);
  size_t chunk = std::min(max_groups, kChunkGroups);
  upper_ = AlignedArray<float>(chunk * stride);
  hits_ = AlignedArray<Hit>(chunk * stride);
  shortlists_ = AlignedArray<Shortlist>(max_rows);
}

void Screen::run(const PackedCodebook& codebook, const PrefixCodebook* prefix, const float* rows, size_t count,
                 size_t padded_dim) {
  codebook_ = &codebook;
  stride_ = round_up(count, kernels_.lanes);
  kernels_.pack_rows({rows, count, padded_dim, codebook.view().dim, codebook.centre(), codebook.scale(), stride_,
                      panel_.data(), squared_norms_.data()});
  bound_rows(count);
  bool integers = codebook.integers() != nullptr;
  by_prefix_ = false;
  if (!integers && few(kernels_, count)) {
    for (size_t row = 0; row < count; row++) screen_float32_row(row);
    return;
  }
  by_prefix_ = prefix != nullptr &&
               prefix_screen_.run(codebook, *prefix,
                                  {rows, count, panel_.data(), stride_, norms_.data(), squared_norms_.data()});
  if (by_prefix_) return;
  if (codebook.bytes() != nullptr && run_int8(count)) return;
  if (integers) {
    quantise_rows();
    screen_integers(count, Precision::kInt16, kNoLimit);
  } else {
    screen_float32(count);
  }
}

bool Screen::run_int8(size_t count) {
  if (kernels_.bytes->screen_rows == nullptr && few_for_integers(kernels_, count)) return false;
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
  if (cost > most) {
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

void Screen::bound_rows(size_t count) {
  const ErrorBound& bound = codebook_->bound();
  for (size_t lane = 0; lane < stride_; lane++) {
    lower_[lane] = -std::numeric_limits<float>::infinity();
    // Lanes without a row are screened like a row at the centre; nobody looks at what comes out.
    double norm = lane < count ? bound.norm(squared_norms_[lane]) : 0;
    if (lane < count) {
      Shortlist& shortlist = shortlists_[lane];
      shortlist.size = 0;
      // A float64 of squared float32 values overflows for no finite row.
      shortlist.verdict = !std::isfinite(squared_norms_[lane])  ? Verdict::kNotFinite
                          : norm <= ErrorBound::kLargestRowNorm ? Verdict::kCandidates
                                                                : Verdict::kUnknown;
      if (shortlist.verdict != Verdict::kCandidates) norm = 0;
    }
    norms_[lane] = norm;
    row_slopes_[lane] = bound.row_slope(norm);
    row_constants_[lane] = bound.row_constant(norm);
  }
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
    double error = norms_[lane] > 0 ? bound.row_error(norms_[lane], multipliers_[lane], squared_errors_[lane]) : 0;
    integer_slopes_[lane] = bound.row_slope(norms_[lane], error);
    row_reaches_[lane] = bound.row_reach(norms_[lane], error);
  }
}

// Most rows are settled by their two largest upper ends. Only for the others somebody looks for the groups within
// reach.
void Screen::screen_float32(size_t count) {
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  size_t groups = codebook_->num_groups();
  for (size_t first = 0; first < groups; first += kChunkGroups) {
    size_t last = std::min(groups, first + kChunkGroups);
    std::fill_n(largest_upper_.data(), stride_, -kInfinity);
    std::fill_n(second_upper_.data(), stride_, -kInfinity);
    screen_classes(first, last);

    bool open = false;
    for (size_t row = 0; row < count; row++) {
      thresholds_[row] = kInfinity;
      if (largest_upper_[row] < lower_[row]) continue;
      if (second_upper_[row] < lower_[row]) {
        add(row, winners_[row], 1, largest_upper_[row]);
      } else {
        thresholds_[row] = lower_[row];
        open = true;
      }
    }
    if (!open) continue;
    std::fill(thresholds_.data() + count, thresholds_.data() + stride_, kInfinity);
    size_t hits = kernels_.collect(upper_.data(), thresholds_.data(), last - first, stride_, hits_.data());
    for (size_t h = 0; h < hits; h++) {
      auto [group, row] = hits_[h];
      add(row, (first + group) * kGroupCodewords, kGroupCodewords, upper_[group * stride_ + row]);
    }
  }
}

void Screen::screen_classes(size_t first, size_t last) {
  codebook_->for_each_class(first, last, [&](const NormClass& norm_class) {
    for (size_t lane = 0; lane < stride_; lane++) {
      bounds_[lane] = row_slopes_[lane] * norm_class.norm + (norm_class.constant + row_constants_[lane]);
    }
    kernels_.screen_tile({codebook_->view(), norm_class.first_group, norm_class.last_group, panel_.data(), stride_,
                          bounds_.data(), upper_.data() + (norm_class.first_group - first) * stride_, lower_.data(),
                          largest_upper_.data(), second_upper_.data(), winners_.data()});
  });
}

double Screen::screen_integers(size_t count, Precision precision, double most) {
  return few_for_integers(kernels_, count) ? screen_integer_rows(count, precision)
                                           : screen_integer_tile(count, precision, most);
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

IntegerCodewords Screen::integer_view(Precision precision) const {
  return precision == Precision::kInt8 ? codebook_->byte_view() : codebook_->integer_view();
}

void Screen::screen_float32_row(size_t row) {
  size_t groups = codebook_->num_groups();
  for (size_t first = 0; first < groups; first += kChunkGroups) {
    size_t last = std::min(groups, first + kChunkGroups);
    kernels_.screen_row({codebook_->view(), first, last, panel_.data(), stride_, row_slopes_.data(),
                         row_constants_.data(), upper_.data(), &lower_[row]},
                        row);
    for (size_t group = first; group < last; group++) {
      if (upper_[group - first] >= lower_[row]) {
        add(row, group * kGroupCodewords, kGroupCodewords, upper_[group - first]);
      }
    }
  }
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

void Screen::add(size_t row, size_t position, size_t codewords, float upper) {
  Shortlist& shortlist = shortlists_[row];
  if (shortlist.verdict != Verdict::kCandidates) return;
  if (shortlist.size == Shortlist::kCapacity) {
    drop_late(row);
    if (shortlist.size == Shortlist::kCapacity) {
      shortlist.verdict = Verdict::kUnknown;
      return;
    }
  }
  shortlist.entries[shortlist.size++] = {static_cast<uint32_t>(position), static_cast<uint32_t>(codewords), upper};
}

void Screen::drop_late(size_t row) {
  Shortlist& shortlist = shortlists_[row];
  uint32_t kept = 0;
  for (uint32_t e = 0; e < shortlist.size; e++) {
    shortlist.entries[kept] = shortlist.entries[e];
    kept += shortlist.entries[e].upper >= lower_[row] ? 1 : 0;
  }
  shortlist.size = kept;
}

void Screen::prefetch(size_t row, const float* codewords, size_t padded_dim) const {
  constexpr size_t kLine = 64 / sizeof(float);
  const Shortlist& shortlist = shortlists_[row];
  if (shortlist.size < 2) return;
  for (uint32_t e = 0; e < shortlist.size; e++) {
    const Shortlist::Entry& entry = shortlist.entries[e];
    if (entry.codewords > 1 || entry.upper < lower_[row]) continue;
    const float* codeword = codewords + codebook_->code(entry.position) * padded_dim;
    for (size_t i = 0; i < padded_dim; i += kLine) __builtin_prefetch(codeword + i);
  }
}

// Single codewords are the candidates. Groups are scored in float32, in two passes: the scores with the lower bound
// that they give, then the codewords that reach it.
Verdict Screen::verdict(size_t row, std::vector<uint32_t>& candidates) {
  candidates.clear();
  if (shortlists_[row].verdict != Verdict::kCandidates) return shortlists_[row].verdict;
  if (by_prefix_) {
    prefix_screen_.candidates(row, candidates);
    return candidates.empty() ? Verdict::kUnknown : Verdict::kCandidates;
  }

  drop_late(row);
  const Shortlist& shortlist = shortlists_[row];
  float upper[Shortlist::kCapacity][kGroupCodewords];
  float lower = lower_[row];
  for (uint32_t e = 0; e < shortlist.size; e++) {
    const Shortlist::Entry& entry = shortlist.entries[e];
    if (entry.codewords == 1) {
      upper[e][0] = entry.upper;
      continue;
    }
    if (entry.upper < lower) continue;
    float scores[kGroupCodewords];
    kernels_.score_group(codebook_->view(), entry.position / kGroupCodewords, panel_.data(), stride_, row, scores);
    size_t codewords = std::min<size_t>(codebook_->size() - entry.position, entry.codewords);
    for (size_t c = 0; c < codewords; c++) {
      size_t position = entry.position + c;
      float bound =
          row_slopes_[row] * codebook_->norm(position) + (codebook_->constant(position) + row_constants_[row]);
      upper[e][c] = scores[c] + bound;
      lower = std::max(lower, scores[c] - bound);
    }
  }
  for (uint32_t e = 0; e < shortlist.size; e++) {
    const Shortlist::Entry& entry = shortlist.entries[e];
    if (entry.upper < lower) continue;
    size_t codewords = std::min<size_t>(codebook_->size() - entry.position, entry.codewords);
    for (size_t c = 0; c < codewords; c++) {
      if (upper[e][c] >= lower) candidates.push_back(codebook_->code(entry.position + c));
    }
  }
  return candidates.empty() ? Verdict::kUnknown : Verdict::kCandidates;
}

}  // namespace rvq::cpu
