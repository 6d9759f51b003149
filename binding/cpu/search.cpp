// Residual encoding of a block: screen, settle what the screen leaves open by the canonical distance, subtract, go on.

#include "search.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#include "aligned_array.h"
#include "near_bound.h"
#include "screen.h"

namespace rvq::cpu {

// A thread's memory for the time of a call, or of several.
struct Encode::Scratch {
  // What it is large enough for.
  struct Size {
    const Kernels* kernels;
    size_t rows;
    size_t padded_dim;
    size_t groups;
    Metric metric;

    bool holds(const Size& other) const {
      return kernels == other.kernels && rows >= other.rows && padded_dim >= other.padded_dim &&
             groups >= other.groups && (metric == Metric::kCosine || other.metric == Metric::kL2);
    }
  };

  explicit Scratch(const Size& all)
      : size(all),
        screen(*all.kernels, std::min(all.rows, all.kernels->tile_rows), all.padded_dim, all.groups),
        residuals(all.rows * all.padded_dim),
        codes(all.rows) {
    if (all.metric != Metric::kCosine) return;
    units = AlignedArray<float>(std::min(all.rows, all.kernels->tile_rows) * all.padded_dim);
  }

  Size size;
  Screen screen;
  AlignedArray<float> residuals;  // [rows][padded_dim]
  AlignedArray<float> units;      // [tile_rows][padded_dim], of the tile at hand, cosine only
  std::vector<uint32_t> codes;    // [rows], of the stage at hand
  std::vector<uint32_t> candidates;
  std::vector<float> distances;  // [candidates]
};

namespace {

// True where no codeword can be told from another by the canonical distance: every x_i − c_i rounds to x_i, because
// |c_i| is at most a quarter of the distance from x_i to the next float64. All distances are then equal, and code 0
// wins. Rows like this are too far out for any screen, and would otherwise be compared with every codeword.
bool beyond_reach(const Stage& stage, const float* row, size_t padded_dim) {
  constexpr double kVanishes = 0x1p55;
  for (size_t i = 0; i < padded_dim; i++) {
    if (std::fabs(static_cast<double>(row[i])) < kVanishes * stage.largest[i]) return false;
  }
  return true;
}

// A thread keeps the memory of its last small call: most calls are like the one before, and to allocate takes as long
// as to search a codebook of a thousand codewords for a vector. Up to about a MiB a thread.
constexpr size_t kMostSpareElements = size_t{1} << 14;

// Candidates are fetched while the rows before are settled: with many stages they lie in the third-level cache.
constexpr size_t kRowsAhead = 2;

// Several tiles of rows pass a stage before the next one, so that its codebook is read from the second-level cache for
// all but the first. Their residuals should take a small part of that cache.
size_t tiles_a_block(size_t tile_elements, size_t stages) {
  constexpr size_t kMostElements = size_t{1} << 15;
  constexpr size_t kMostTiles = 8;
  return stages > 1 ? std::clamp<size_t>(kMostElements / tile_elements, 1, kMostTiles) : 1;
}

}  // namespace

Encode::Encode(const Kernels& kernels, const Codebooks& codebooks, const EncodeRequest& request, size_t threads)
    : kernels_(kernels), codebooks_(codebooks), request_(request), check_(kernels, codebooks, request.vectors) {
  // Few rows are shared out evenly among the threads, in whole registers or tiles.
  size_t share = (request.count + threads - 1) / std::max<size_t>(threads, 1);
  size_t step = share < kernels.tile_rows ? kernels.lanes : kernels.tile_rows;
  size_t most = kernels.tile_rows * tiles_a_block(kernels.tile_rows * codebooks.padded_dim, request.stages);
  block_rows_ = std::clamp((share + step - 1) / step * step, step, most);
}

double Encode::work() const {
  double codewords = 0;
  for (size_t s = 0; s < request_.stages; s++) codewords += static_cast<double>(codebooks_.stages[s].num_codewords);
  return codewords * static_cast<double>(request_.count) * static_cast<double>(codebooks_.dim);
}

void Encode::run(BlockFeed& feed) {
  thread_local std::unique_ptr<Scratch> spare;
  size_t rows = std::min(block_rows_, request_.count);
  Scratch::Size size{&kernels_, rows, codebooks_.padded_dim, codebooks_.max_groups(), codebooks_.metric};
  std::unique_ptr<Scratch> scratch =
      spare && spare->size.holds(size) ? std::move(spare) : std::make_unique<Scratch>(size);
  run(feed, *scratch);
  if (rows * std::max(size.padded_dim, size.groups) <= kMostSpareElements) spare = std::move(scratch);
}

void Encode::run(BlockFeed& feed, Scratch& scratch) {
  while (auto block = feed.next()) {
    size_t first_row = *block * block_rows_;
    size_t count = std::min(block_rows_, request_.count - first_row);
    if (!check_.passes(first_row, count)) {
      feed.stop();
      return;
    }
    encode_block(first_row, count, scratch);
  }
}

void Encode::encode_block(size_t first_row, size_t count, Scratch& scratch) const {
  size_t dim = codebooks_.dim;
  size_t padded_dim = codebooks_.padded_dim;
  for (size_t r = 0; r < count; r++) {
    copy_padded(request_.vectors + (first_row + r) * dim, dim, padded_dim, scratch.residuals.data() + r * padded_dim);
  }

  for (size_t s = 0; s < request_.stages; s++) {
    const Stage& stage = codebooks_.stages[s];
    for (size_t first = 0; first < count; first += kernels_.tile_rows) {
      search(stage, first, std::min(kernels_.tile_rows, count - first), scratch);
    }
    bool last = s + 1 == request_.stages;
    for (size_t r = 0; r < count; r++) {
      uint32_t code = scratch.codes[r];
      request_.codes.set((first_row + r) * request_.stages + s, code);
      if (last && request_.residuals == nullptr) continue;
      kernels_.subtract(scratch.residuals.data() + r * padded_dim, stage.codewords.data() + code * padded_dim,
                        padded_dim);
    }
  }

  if (request_.residuals == nullptr) return;
  for (size_t r = 0; r < count; r++) {
    std::memcpy(request_.residuals + (first_row + r) * dim, scratch.residuals.data() + r * padded_dim,
                dim * sizeof(float));
  }
}

// Drops candidates that are further by their float32 distances than float32's rounding explains; returns how many
// remain.
size_t Encode::keep_near(const Stage& stage, const float* row, Scratch& scratch) const {
  NearBound bound(codebooks_.dim);
  std::vector<uint32_t>& candidates = scratch.candidates;
  if (!bound.usable || codebooks_.weights_or_null() != nullptr) return candidates.size();
  scratch.distances.resize(std::max(scratch.distances.size(), candidates.size()));
  size_t kept = kernels_.keep_near({row, codebooks_.padded_dim, stage.searched(), bound.widening, bound.underflow,
                                    candidates.size(), candidates.data(), scratch.distances.data()});
  candidates.resize(kept);
  return kept;
}

// scratch.codes[r] = the nearest of the stage's codewords for `count` rows r of scratch.residuals from `first` on, a
// tile at most.
void Encode::search(const Stage& stage, size_t first, size_t count, Scratch& scratch) const {
  uint32_t* codes = scratch.codes.data() + first;
  std::fill_n(codes, count, 0u);
  if (stage.distinct.size() == 1) return;

  size_t padded_dim = codebooks_.padded_dim;
  const float* rows = scratch.residuals.data() + first * padded_dim;
  if (codebooks_.metric == Metric::kCosine) {
    for (size_t r = 0; r < count; r++) {
      float* unit = scratch.units.data() + r * padded_dim;
      // A residual of zero has no direction: its unit row is marked by the infinity that gets code 0 below.
      if (!kernels_.unit_row(rows + r * padded_dim, padded_dim, unit)) {
        std::fill(unit, unit + padded_dim, std::numeric_limits<float>::infinity());
      }
    }
    rows = scratch.units.data();
  }

  if (stage.packed) scratch.screen.run(*stage.packed, stage.prefix.get(), rows, count, padded_dim);
  for (size_t r = 0; r < count; r++) {
    if (stage.packed && r + kRowsAhead < count) {
      scratch.screen.prefetch(r + kRowsAhead, stage.searched(), padded_dim);
    }
    Verdict verdict = Verdict::kUnknown;
    if (stage.packed) verdict = scratch.screen.verdict(r, scratch.candidates);
    // Every distance of a row that is not finite is infinite or NaN (a weight of zero included), and none of those is
    // smaller than the infinity that code 0 starts with.
    if (verdict == Verdict::kNotFinite) continue;
    if (verdict == Verdict::kCandidates &&
        (scratch.candidates.size() == 1 || keep_near(stage, rows + r * padded_dim, scratch) == 1)) {
      codes[r] = scratch.candidates[0];
      continue;
    }
    if (verdict == Verdict::kUnknown && beyond_reach(stage, rows + r * padded_dim, padded_dim)) continue;
    const uint32_t* order = verdict == Verdict::kCandidates ? scratch.candidates.data() : stage.distinct.data();
    size_t choices = verdict == Verdict::kCandidates ? scratch.candidates.size() : stage.distinct.size();
    codes[r] = kernels_.scan({rows + r * padded_dim, padded_dim, stage.searched(), codebooks_.weights_or_null(), order,
                              choices, std::numeric_limits<double>::infinity(), 0});
  }
}

StageSearch::StageSearch(const Kernels& kernels, const Codebooks& codebooks, size_t max_rows)
    : encode_(kernels, codebooks, EncodeRequest{}, 1),
      scratch_(std::make_unique<Encode::Scratch>(
          Encode::Scratch::Size{&kernels, max_rows, codebooks.padded_dim, codebooks.max_groups(), codebooks.metric})) {}

StageSearch::~StageSearch() = default;

float* StageSearch::rows() { return scratch_->residuals.data(); }

const uint32_t* StageSearch::run(const Stage& stage, size_t count) {
  encode_.search(stage, 0, count, *scratch_);
  return scratch_->codes.data();
}

}  // namespace rvq::cpu
