// The codewords that moved from one iteration of k-means to the next, prepared to be searched by themselves.

#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "aligned_array.h"
#include "codebook.h"
#include "kernels.h"

namespace rvq::cpu {

struct MovedCodewords {
  std::vector<uint8_t> moved;  // [num_codewords], 1 where the codeword is not bit for bit what it was
  AlignedArray<float> before;  // [num_codewords][padded_dim], what distances were measured to
  // All codewords, of which `distinct` names none but those that moved; it has none or at least two.
  Stage stage;

  size_t size_bytes() const;
};

// What moved in the first stage since it was previous[num_codewords][dim]; null where too many have moved for a
// search of those alone to pay. `codebooks` is prepared from `spec`.
std::unique_ptr<const MovedCodewords> find_moved(const Kernels& kernels, const CodebookSpec& spec,
                                                 const Codebooks& codebooks, const float* previous);

}  // namespace rvq::cpu
