// Prepares codebooks: padded copies, unit-length copies for the cosine metric, and the screen's panels.

#include "codebook.h"

#include <algorithm>
#include <cmath>
#include <cstring>

namespace rvq::cpu {

namespace {

AlignedArray<float> padded_copy(const float* rows, size_t count, size_t dim, size_t padded_dim) {
  AlignedArray<float> copy(count * padded_dim);
  for (size_t n = 0; n < count; n++) {
    float* row = copy.data() + n * padded_dim;
    std::memcpy(row, rows + n * dim, dim * sizeof(float));
    std::fill(row + dim, row + padded_dim, 0.0f);
  }
  return copy;
}

// Equal where it matters to a distance: a dimension of weight zero does not, nor does the sign of a zero.
bool same_codeword(const float* a, const float* b, const float* weights, size_t dim) {
  for (size_t i = 0; i < dim; i++) {
    if (a[i] != b[i] && (weights == nullptr || weights[i] != 0)) return false;
  }
  return true;
}

uint64_t hash_codeword(const float* codeword, const float* weights, size_t dim) {
  uint64_t hash = 0;
  for (size_t i = 0; i < dim; i++) {
    bool counts = codeword[i] != 0 && (weights == nullptr || weights[i] != 0);
    uint32_t bits = 0;
    if (counts) std::memcpy(&bits, codeword + i, sizeof bits);
    hash = (hash ^ bits) * 0x9e3779b97f4a7c15u;
    hash ^= hash >> 29;
  }
  return hash;
}

// The codes whose codeword equals none before it, ascending. An equal one later can never win: its distances are the
// same, and ties go to the lowest code.
std::vector<uint32_t> distinct_codes(const float* codewords, size_t count, const float* weights, size_t padded_dim) {
  struct Entry {
    uint64_t hash;
    uint32_t code;
  };
  std::vector<Entry> entries(count);
  for (size_t k = 0; k < count; k++) {
    entries[k] = {hash_codeword(codewords + k * padded_dim, weights, padded_dim), static_cast<uint32_t>(k)};
  }
  std::sort(entries.begin(), entries.end(),
            [](const Entry& a, const Entry& b) { return a.hash != b.hash ? a.hash < b.hash : a.code < b.code; });

  std::vector<uint32_t> distinct;
  size_t first_of_hash = 0;  // in `distinct`
  for (size_t e = 0; e < count; e++) {
    if (e > 0 && entries[e].hash != entries[e - 1].hash) first_of_hash = distinct.size();
    const float* codeword = codewords + entries[e].code * padded_dim;
    bool seen = false;
    for (size_t d = first_of_hash; d < distinct.size() && !seen; d++) {
      seen = same_codeword(codeword, codewords + distinct[d] * padded_dim, weights, padded_dim);
    }
    if (!seen) distinct.push_back(entries[e].code);
  }
  std::sort(distinct.begin(), distinct.end());
  return distinct;
}

bool for_integers(const Kernels& kernels, const CodebookSpec& spec) {
  if (kernels.integers == nullptr || !IntegerBound::usable(spec.dim)) return false;
  if (spec.screen != ScreenChoice::kByShape) return spec.screen == ScreenChoice::kInt16;
  return spec.dim >= kernels.integers->fewest_dims;
}

AlignedArray<float> largest_elements(const float* codewords, size_t count, size_t padded_dim) {
  AlignedArray<float> largest(padded_dim);
  std::fill_n(largest.data(), padded_dim, 0.0f);
  for (size_t k = 0; k < count; k++) {
    for (size_t i = 0; i < padded_dim; i++) {
      largest[i] = std::max(largest[i], std::fabs(codewords[k * padded_dim + i]));
    }
  }
  return largest;
}

}  // namespace

Codebooks prepare(const CodebookSpec& spec) {
  Codebooks codebooks{spec.dim, padded(spec.dim), spec.metric, {}, {}};
  if (spec.weights != nullptr) codebooks.weights = padded_copy(spec.weights, 1, spec.dim, codebooks.padded_dim);
  codebooks.stages.resize(spec.stages.size());
  return codebooks;
}

void prepare_stage(const Kernels& kernels, const CodebookSpec& spec, size_t stage, Codebooks& codebooks) {
  auto [codewords, num_codewords] = spec.stages[stage];
  size_t padded_dim = codebooks.padded_dim;
  Stage& prepared = codebooks.stages[stage];
  prepared.num_codewords = num_codewords;
  prepared.codewords = padded_copy(codewords, num_codewords, spec.dim, padded_dim);

  if (spec.metric == Metric::kCosine) {
    prepared.units = AlignedArray<float>(num_codewords * padded_dim);
    for (size_t k = 0; k < num_codewords; k++) {
      float* unit = prepared.units.data() + k * padded_dim;
      if (!kernels.unit_row(prepared.codewords.data() + k * padded_dim, padded_dim, unit)) {
        std::fill(unit, unit + padded_dim, 0.0f);
      }
    }
  }

  const float* weights = codebooks.weights_or_null();
  prepared.largest = largest_elements(prepared.searched(), num_codewords, padded_dim);
  prepared.distinct = distinct_codes(prepared.searched(), num_codewords, weights, padded_dim);
  if (prepared.distinct.size() > 1 && ErrorBound(spec.dim).usable()) {
    prepared.packed.emplace(prepared.searched(), padded_dim, spec.dim, prepared.distinct, weights,
                            for_integers(kernels, spec));
  }
}

size_t padded(size_t dim) { return (dim + kSumLanes - 1) / kSumLanes * kSumLanes; }

size_t Codebooks::size_bytes() const {
  size_t total = weights.size_bytes();
  for (const Stage& stage : stages) {
    total += stage.codewords.size_bytes() + stage.units.size_bytes() + stage.largest.size_bytes() +
             stage.distinct.size() * sizeof(uint32_t);
    if (stage.packed) total += stage.packed->size_bytes();
  }
  return total;
}

}  // namespace rvq::cpu
