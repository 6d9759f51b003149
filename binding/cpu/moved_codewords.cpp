// Compares two codebooks and packs the codewords in which they differ.

#include "moved_codewords.h"

#include <algorithm>
#include <cstring>

namespace rvq::cpu {

namespace {

// A canonical distance takes about as long as screening this many codewords by integers.
constexpr double kDistanceCost = 40;

// Of K codewords a share m moved. Every row is measured once, and twice where its own moved, to tell whether that went
// away. Half of those did and are searched in full; the others are compared with the m·K that moved. What that saves of
// K is (1 − m)·(1 − m/2).
bool pays(size_t moved, size_t codewords) {
  auto all = static_cast<double>(codewords);
  double share = static_cast<double>(moved) / all;
  return (1 - share) * (1 - share / 2) * all > kDistanceCost * (1 + share);
}

}  // namespace

std::unique_ptr<const MovedCodewords> find_moved(const Kernels& kernels, const CodebookSpec& spec,
                                                 const Codebooks& codebooks, const float* previous) {
  const Stage& now = codebooks.stages[0];
  size_t padded_dim = codebooks.padded_dim;
  auto owned = std::make_unique<MovedCodewords>();
  MovedCodewords& found = *owned;
  found.moved.resize(now.num_codewords);
  for (size_t k = 0; k < now.num_codewords; k++) {
    size_t bytes = spec.dim * sizeof(float);
    found.moved[k] = std::memcmp(previous + k * spec.dim, spec.stages[0].codewords + k * spec.dim, bytes) != 0;
  }
  std::vector<uint32_t> searched;
  for (uint32_t k : now.distinct) {
    if (found.moved[k]) searched.push_back(k);
  }
  if (!pays(searched.size(), now.distinct.size())) return nullptr;

  found.before = searched_copy(kernels, spec.metric, previous, now.num_codewords, spec.dim);
  found.stage.num_codewords = now.num_codewords;
  found.stage.codewords = AlignedArray<float>(now.num_codewords * padded_dim);
  std::copy_n(now.searched(), now.num_codewords * padded_dim, found.stage.codewords.data());
  found.stage.largest = AlignedArray<float>(padded_dim);
  std::copy_n(now.largest.data(), padded_dim, found.stage.largest.data());
  // A search of a single codeword is none: one that stayed keeps it company, which changes no answer.
  if (searched.size() == 1) searched.push_back(now.distinct[now.distinct[0] == searched[0] ? 1 : 0]);
  std::sort(searched.begin(), searched.end());
  found.stage.distinct = std::move(searched);
  pack_stage(kernels, spec, codebooks, found.stage);
  return owned;
}

size_t MovedCodewords::size_bytes() const { return moved.size() + before.size_bytes() + stage.size_bytes(); }

}  // namespace rvq::cpu
