// The codebooks of a quantizer, prepared once and then only read, by any number of threads.

#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <optional>
#include <vector>

#include "aligned_array.h"
#include "kernels.h"
#include "packed_codebook.h"
#include "prefix_codebook.h"

namespace rvq::cpu {

enum class Metric { kL2, kCosine };

// Which screen a stage is prepared for: the one that is faster for its shape, or for tests always the same one, where
// the kernels have it.
enum class ScreenChoice { kByShape, kFloat32, kInt16, kUniform, kInt8, kPrefix };

// What a quantizer is made of, borrowed for the time of the preparation.
struct CodebookSpec {
  struct Stage {
    const float* codewords;  // [num_codewords][dim], finite; with the cosine metric none is zero
    size_t num_codewords;
  };
  size_t dim;
  Metric metric;
  const float* weights;  // [dim] or null
  std::vector<Stage> stages;
  ScreenChoice screen = ScreenChoice::kByShape;
};

// Codeword k of a row-padded matrix is row k; padding elements are zero.
struct Stage {
  size_t num_codewords;
  AlignedArray<float> codewords;           // [num_codewords][padded_dim], as given
  AlignedArray<float> units;               // the same brought to unit length; cosine only, else empty
  std::vector<uint32_t> distinct;          // ascending; a code that is missing has an equal codeword before it
  AlignedArray<float> largest;             // [padded_dim], of |searched()[k][i]| over all k
  std::optional<PackedCodebook> packed;    // where there are two codewords to choose between, and a bound
  std::unique_ptr<PrefixCodebook> prefix;  // where few dimensions rule out most codewords

  // What distances are measured to.
  const float* searched() const { return units.size() > 0 ? units.data() : codewords.data(); }
  size_t size_bytes() const;
};

struct Codebooks {
  size_t dim;
  size_t padded_dim;  // a multiple of kSumLanes
  Metric metric;
  AlignedArray<float> weights;  // [padded_dim] or empty
  std::vector<Stage> stages;

  const float* weights_or_null() const { return weights.size() > 0 ? weights.data() : nullptr; }
  // The most groups that a stage's screen has.
  size_t max_groups() const;
  size_t size_bytes() const;
};

// All but the stages, which prepare_stage fills one by one, in any order and on any thread.
Codebooks prepare(const CodebookSpec& spec);
void prepare_stage(const Kernels& kernels, const CodebookSpec& spec, size_t stage, Codebooks& codebooks);

// Packs stage.distinct for the screen, where it can be screened.
void pack_stage(const Kernels& kernels, const CodebookSpec& spec, const Codebooks& codebooks, Stage& stage);

// codewords[count][dim] row-padded, as they are or brought to unit length: what distances are measured to.
AlignedArray<float> searched_copy(const Kernels& kernels, Metric metric, const float* codewords, size_t count,
                                  size_t dim);

// dim rounded up to a multiple of kSumLanes.
size_t padded(size_t dim);

// to[padded_dim] = row[dim] and zeros.
inline void copy_padded(const float* row, size_t dim, size_t padded_dim, float* to) {
  std::memcpy(to, row, dim * sizeof(float));
  std::fill(to + dim, to + padded_dim, 0.0f);
}

}  // namespace rvq::cpu
