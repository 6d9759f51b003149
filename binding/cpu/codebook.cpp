// Prepares codebooks: padded copies, unit-length copies for the cosine metric, and the screen's panels.

#include "codebook.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "distinct_codes.h"

namespace rvq::cpu {

namespace {

AlignedArray<float> padded_copy(const float* rows, size_t count, size_t dim, size_t padded_dim) {
  AlignedArray<float> copy(count * padded_dim);
  for (size_t n = 0; n < count; n++) {
    copy_padded(rows + n * dim, dim, padded_dim, copy.data() + n * padded_dim);
  }
  return copy;
}

// Fewer codewords save less in bytes than a second look at two or three candidates costs.
constexpr size_t kFewestByteCodewords = 128;

IntegerScreens integer_screens(const Kernels& kernels, const CodebookSpec& spec, size_t codewords) {
  bool integers = kernels.integers != nullptr && IntegerBound::usable(spec.dim);
  bool bytes = kernels.bytes != nullptr && ByteBound::usable(spec.dim);
  if (spec.screen == ScreenChoice::kByShape) {
    UniformUse uniform =
        integers && spec.dim >= kernels.integers->fewest_uniform_dims ? UniformUse::kOnTrial : UniformUse::kNever;
    integers = integers && spec.dim >= kernels.integers->fewest_dims;
    bytes = bytes && spec.dim >= kernels.bytes->fewest_dims && codewords >= kFewestByteCodewords;
    return {integers, uniform, bytes ? kernels.bytes : nullptr, true};
  }
  return {integers && spec.screen == ScreenChoice::kInt16,
          integers && spec.screen == ScreenChoice::kUniform ? UniformUse::kAlways : UniformUse::kNever,
          bytes && spec.screen == ScreenChoice::kInt8 ? kernels.bytes : nullptr, false};
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
    prepared.units = searched_copy(kernels, spec.metric, codewords, num_codewords, spec.dim);
  }

  const float* weights = codebooks.weights_or_null();
  prepared.largest = largest_elements(prepared.searched(), num_codewords, padded_dim);
  prepared.distinct = distinct_codes(prepared.searched(), num_codewords, padded_dim, spec.dim, weights);
  pack_stage(kernels, spec, codebooks, prepared);
}

void pack_stage(const Kernels& kernels, const CodebookSpec& spec, const Codebooks& codebooks, Stage& stage) {
  if (stage.distinct.size() < 2 || !ErrorBound(spec.dim).usable()) return;
  stage.packed.emplace(kernels, stage.searched(), codebooks.padded_dim, spec.dim, stage.distinct,
                       codebooks.weights_or_null(), integer_screens(kernels, spec, stage.distinct.size()));
  bool always = spec.screen == ScreenChoice::kPrefix;
  if (!always && spec.screen != ScreenChoice::kByShape) return;
  stage.prefix = PrefixCodebook::make(kernels, *stage.packed,
                                      {stage.searched(), codebooks.padded_dim, codebooks.weights_or_null()}, always);
}

AlignedArray<float> searched_copy(const Kernels& kernels, Metric metric, const float* codewords, size_t count,
                                  size_t dim) {
  size_t padded_dim = padded(dim);
  AlignedArray<float> copy = padded_copy(codewords, count, dim, padded_dim);
  if (metric != Metric::kCosine) return copy;
  AlignedArray<float> units(count * padded_dim);
  for (size_t k = 0; k < count; k++) {
    float* unit = units.data() + k * padded_dim;
    if (!kernels.unit_row(copy.data() + k * padded_dim, padded_dim, unit)) std::fill_n(unit, padded_dim, 0.0f);
  }
  return units;
}

size_t padded(size_t dim) { return (dim + kSumLanes - 1) / kSumLanes * kSumLanes; }

size_t Codebooks::max_groups() const {
  size_t most = 0;
  for (const Stage& stage : stages) most = std::max(most, stage.packed ? stage.packed->num_groups() : 0);
  return most;
}

size_t Codebooks::size_bytes() const {
  size_t total = weights.size_bytes();
  for (const Stage& stage : stages) total += stage.size_bytes();
  return total;
}

size_t Stage::size_bytes() const {
  return codewords.size_bytes() + units.size_bytes() + largest.size_bytes() + distinct.size() * sizeof(uint32_t) +
         (packed ? packed->size_bytes() : 0) + (prefix ? prefix->size_bytes() : 0);
}

}  // namespace rvq::cpu
