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

// For up to a third of a register of rows it is faster to put the codewords in the lanes.
bool few(const Kernels& kernels, size_t count) { return 3 * count <= kernels.lanes; }

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
  by_prefix_ = false;
  if (few(kernels_, count)) {
    for (size_t row = 0; row < count; row++) screen_single_row(row);
    return;
  }
  by_prefix_ = prefix != nullptr && prefix->trial().wanted() &&
               prefix_screen_.run(codebook, *prefix,
                                  {rows, count, panel_.data(), stride_, norms_.data(), squared_norms_.data()});
  if (by_prefix_) return;
  if (codebook.bytes() != nullptr && run_int8(count)) return;
  if (codebook.integers() != nullptr) {
    quantise_rows();
    screen_tile(count, Precision::kInt16, SIZE_MAX);
  } else {
    screen_float32(count);
  }
}

bool Screen::run_int8(size_t count) {
  ByteTrial* trial = codebook_->bytes()->trial();
  ByteTrial::Turn turn = trial == nullptr ? ByteTrial::Turn::kYes : trial->take();
  if (turn == ByteTrial::Turn::kNo) return false;
  quantise_bytes();
  size_t codewords = codebook_->size();
  size_t most_hits = trial == nullptr ? SIZE_MAX : ByteTrial::most_hits(count, codewords);
  size_t hits = screen_tile(count, Precision::kInt8, most_hits);

  // Rows with too many candidates for bytes have few in float32.
  rows_again_.clear();
  for (size_t row = 0; row < count; row++) {
    if (shortlists_[row].verdict == Verdict::kUnknown && norms_[row] > 0) rows_again_.push_back(row);
  }
  if (trial != nullptr) {
    hits += rows_again_.size() * ByteTrial::hits_of_row(codewords);
    trial->report(turn, count, codewords, hits);
  }
  if (hits > most_hits) {
    bound_rows(count);
    return false;
  }
  for (size_t row : rows_again_) {
    shortlists_[row].verdict = Verdict::kCandidates;
    shortlists_[row].size = 0;
    lower_[row] = -std::numeric_limits<float>::infinity();
    screen_single_row(row);
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
  for (size_t row = 0; row < count; row++) shortlists_[row].precision = Precision::kFloat32;
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
        Shortlist::Entry* entry = add(row, winners_[row] / kGroupCodewords, largest_upper_[row]);
        if (entry != nullptr) entry->position = winners_[row];
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
      add(row, static_cast<uint32_t>(first + group), upper_[group * stride_ + row]);
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

size_t Screen::screen_tile(size_t count, Precision precision, size_t most_hits) {
  auto screen = precision == Precision::kInt8 ? kernels_.bytes->screen_tile : kernels_.integers->screen_tile;
  size_t total = 0;
  for (size_t row = 0; row < count; row++) shortlists_[row].precision = precision;
  size_t groups = codebook_->num_groups();
  for (size_t first = 0; first < groups; first += kIntegerChunkGroups) {
    size_t last = std::min(groups, first + kIntegerChunkGroups);
    screen({integer_view(precision), first, last, words_.data(), stride_, row_starts_.data(), row_factors_.data(),
            integer_slopes_.data(), row_reaches_.data(), row_constants_.data(), upper_.data(), lower_.data(),
            scores_.data()});
    size_t hits = kernels_.collect(upper_.data(), lower_.data(), last - first, stride_, hits_.data());
    for (size_t h = 0; h < hits; h++) {
      auto [group, row] = hits_[h];
      if (row >= count || shortlists_[row].verdict != Verdict::kCandidates) continue;
      if (++total > most_hits) return total;
      Shortlist::Entry* entry = add(row, static_cast<uint32_t>(first + group), upper_[group * stride_ + row]);
      if (entry == nullptr) continue;
      const float* scores = scores_.data() + group * kGroupCodewords * stride_ + row;
      for (size_t c = 0; c < kGroupCodewords; c++) entry->scores[c] = scores[c * stride_];
    }
  }
  return total;
}

IntegerCodewords Screen::integer_view(Precision precision) const {
  return precision == Precision::kInt8 ? codebook_->byte_view() : codebook_->integer_view();
}

void Screen::screen_single_row(size_t row) {
  shortlists_[row].precision = Precision::kFloat32;
  size_t groups = codebook_->num_groups();
  for (size_t first = 0; first < groups; first += kChunkGroups) {
    size_t last = std::min(groups, first + kChunkGroups);
    kernels_.screen_row({codebook_->view(), first, last, panel_.data(), stride_, row_slopes_.data(),
                         row_constants_.data(), upper_.data(), &lower_[row]},
                        row);
    for (size_t group = first; group < last; group++) {
      if (upper_[group - first] >= lower_[row]) add(row, static_cast<uint32_t>(group), upper_[group - first]);
    }
  }
}

// Null where the row is given up.
Screen::Shortlist::Entry* Screen::add(size_t row, uint32_t group, float upper) {
  Shortlist& shortlist = shortlists_[row];
  if (shortlist.verdict != Verdict::kCandidates) return nullptr;
  if (shortlist.size == Shortlist::kCapacity) {
    // The row's lower bound has risen since the first of them came.
    const Shortlist::Entry* end = std::remove_if(shortlist.entries, shortlist.entries + shortlist.size,
                                                 [&](const auto& entry) { return entry.upper < lower_[row]; });
    shortlist.size = static_cast<uint32_t>(end - shortlist.entries);
    if (shortlist.size == Shortlist::kCapacity) {
      shortlist.verdict = Verdict::kUnknown;
      return nullptr;
    }
  }
  Shortlist::Entry& entry = shortlist.entries[shortlist.size++];
  entry.group = group;
  entry.upper = upper;
  entry.position = Shortlist::Entry::kSeveral;
  return &entry;
}

void Screen::narrow(size_t row, std::vector<uint32_t>& candidates) {
  Shortlist& shortlist = shortlists_[row];
  IntegerCodewords view = integer_view(shortlist.precision);
  uint32_t kept = 0;
  for (uint32_t e = 0; e < shortlist.size; e++) {
    const Shortlist::Entry& entry = shortlist.entries[e];
    if (entry.upper < lower_[row]) continue;
    float bound = integer_slopes_[row] * view.group_norms[entry.group] +
                  (row_reaches_[row] * view.group_errors[entry.group] +
                   (view.group_constants[entry.group] + row_constants_[row]));
    // Without branches: they would guess wrong once an entry.
    unsigned reaching = 0;
    size_t codewords = std::min(codebook_->size() - entry.group * kGroupCodewords, kGroupCodewords);
    for (unsigned c = 0; c < codewords; c++) {
      reaching |= static_cast<unsigned>(entry.scores[c] + bound >= lower_[row]) << c;
    }
    if (reaching == 0) continue;
    for (unsigned left = reaching; left != 0; left &= left - 1) {
      candidates.push_back(codebook_->code(entry.group * kGroupCodewords + std::countr_zero(left)));
    }
    shortlist.entries[kept++] = entry;
  }
  shortlist.size = kept;
}

// After the float32 screen mostly nothing is open. After the 16-bit screen a single codeword is mostly left, after the
// 8-bit screen a few, which single distances settle sooner than whole groups. Else the groups are scored in float32, in
// two passes: the scores with the lower bound that they give, then the codewords that reach it.
Verdict Screen::verdict(size_t row, std::vector<uint32_t>& candidates) {
  const Shortlist& shortlist = shortlists_[row];
  candidates.clear();
  if (shortlist.verdict != Verdict::kCandidates) return shortlist.verdict;
  if (by_prefix_) {
    prefix_screen_.candidates(row, candidates);
    return candidates.empty() ? Verdict::kUnknown : Verdict::kCandidates;
  }
  if (shortlist.precision != Precision::kFloat32) {
    narrow(row, candidates);
    if (candidates.size() == 1 || shortlist.precision == Precision::kInt8) return Verdict::kCandidates;
    candidates.clear();
  }

  // The row's lower bound may have risen since an entry came.
  const Shortlist::Entry* open = nullptr;
  size_t num_open = 0;
  for (uint32_t e = 0; e < shortlist.size; e++) {
    if (shortlist.entries[e].upper < lower_[row]) continue;
    open = &shortlist.entries[e];
    num_open++;
  }
  if (num_open == 1 && open->position != Shortlist::Entry::kSeveral) {
    candidates.push_back(codebook_->code(open->position));
    return Verdict::kCandidates;
  }

  float upper[Shortlist::kCapacity][kGroupCodewords];
  float lower = lower_[row];
  for (uint32_t e = 0; e < shortlist.size; e++) {
    if (shortlist.entries[e].upper < lower) continue;
    size_t group = shortlist.entries[e].group;
    float scores[kGroupCodewords];
    kernels_.score_group(codebook_->view(), group, panel_.data(), stride_, row, scores);
    size_t first = group * kGroupCodewords;
    size_t codewords = std::min(codebook_->size() - first, kGroupCodewords);
    for (size_t c = 0; c < codewords; c++) {
      float bound =
          row_slopes_[row] * codebook_->norm(first + c) + (codebook_->constant(first + c) + row_constants_[row]);
      upper[e][c] = scores[c] + bound;
      lower = std::max(lower, scores[c] - bound);
    }
  }
  for (uint32_t e = 0; e < shortlist.size; e++) {
    if (shortlist.entries[e].upper < lower) continue;
    size_t first = shortlist.entries[e].group * kGroupCodewords;
    size_t codewords = std::min(codebook_->size() - first, kGroupCodewords);
    for (size_t c = 0; c < codewords; c++) {
      if (upper[e][c] >= lower) candidates.push_back(codebook_->code(first + c));
    }
  }
  return candidates.empty() ? Verdict::kUnknown : Verdict::kCandidates;
}

}  // namespace rvq::cpu
