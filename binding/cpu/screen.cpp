// Screens a block of rows in three steps: scores of all groups, the groups within reach of the best, their codewords.

#include "screen.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace rvq::cpu {

namespace {

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
    integer_starts_ = AlignedArray<int32_t>(std::min(max_groups, kChunkGroups) * kGroupCodewords);
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
  if (codebook.integers() == nullptr && few(kernels_, count)) {
    for (size_t row = 0; row < count; row++) screen_float32_row(row);
    return;
  }
  by_prefix_ = prefix != nullptr &&
               prefix_screen_.run(codebook, *prefix,
                                  {rows, count, panel_.data(), stride_, norms_.data(), squared_norms_.data()});
  if (by_prefix_) return;
  if (codebook.bytes() != nullptr && run_int8(count)) return;
  if (codebook.integers() != nullptr && run_int16(count)) return;
  screen_float32(count);
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

void Screen::screen_float32(size_t count) {
  size_t groups = codebook_->num_groups();
  for (size_t first = 0; first < groups; first += kChunkGroups) {
    size_t last = std::min(groups, first + kChunkGroups);
    forget_ends();
    screen_classes(first, last);
    note_groups(first, last, count);
  }
}

void Screen::forget_ends() {
  std::fill_n(largest_upper_.data(), stride_, -std::numeric_limits<float>::infinity());
  std::fill_n(second_upper_.data(), stride_, -std::numeric_limits<float>::infinity());
}

TileEnds Screen::tile_ends(size_t group) {
  return {bounds_.data(), upper_.data() + group * stride_, lower_.data(), largest_upper_.data(), second_upper_.data(),
          winners_.data()};
}

void Screen::screen_classes(size_t first, size_t last) {
  codebook_->for_each_class(first, last, [&](const NormClass& norm_class) {
    for (size_t lane = 0; lane < stride_; lane++) {
      bounds_[lane] = row_slopes_[lane] * norm_class.norm + (norm_class.constant + row_constants_[lane]);
    }
    kernels_.screen_tile({codebook_->view(), norm_class.first_group, norm_class.last_group, panel_.data(), stride_,
                          tile_ends(norm_class.first_group - first)});
  });
}

// Most rows are settled by their two largest upper ends. Only for the others somebody looks for the groups within
// reach.
size_t Screen::note_groups(size_t first, size_t last, size_t count) {
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  bool open = false;
  for (size_t row = 0; row < count; row++) {
    thresholds_[row] = kInfinity;
    if (shortlists_[row].verdict != Verdict::kCandidates || largest_upper_[row] < lower_[row]) continue;
    if (second_upper_[row] < lower_[row]) {
      add(row, winners_[row], 1, largest_upper_[row]);
    } else {
      thresholds_[row] = lower_[row];
      open = true;
    }
  }
  if (!open) return 0;
  std::fill(thresholds_.data() + count, thresholds_.data() + stride_, kInfinity);
  size_t hits = kernels_.collect(upper_.data(), thresholds_.data(), last - first, stride_, hits_.data());
  for (size_t h = 0; h < hits; h++) {
    auto [group, row] = hits_[h];
    add(row, (first + group) * kGroupCodewords, kGroupCodewords, upper_[group * stride_ + row]);
  }
  return hits;
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

  const Shortlist& shortlist = shortlists_[row];
  if (shortlist.size == 1 && shortlist.entries[0].codewords == 1) {
    candidates.push_back(codebook_->code(shortlist.entries[0].position));
    return Verdict::kCandidates;
  }
  drop_late(row);
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
