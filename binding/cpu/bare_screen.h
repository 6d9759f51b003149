// The screen without its certificate: what an inexact search with the same kernels does. Only for benchmarks.

#pragma once

#include <cstddef>
#include <cstdint>

#include "../block_feed.h"
#include "codebook.h"
#include "kernels.h"

namespace rvq::cpu {

// codes[n] = the codeword with the best score, without error bounds: wrong where two are about equally near.
class BareScreen {
 public:
  // vectors[count][codebooks.dim] and codes[count] are borrowed; the stage must have two different codewords.
  BareScreen(const Kernels& kernels, const Codebooks& codebooks, const Stage& stage, const float* vectors, size_t count,
             int32_t* codes)
      : kernels_(kernels),
        dim_(codebooks.dim),
        codebook_(*stage.packed),
        vectors_(vectors),
        count_(count),
        codes_(codes) {}

  size_t blocks() const { return (count_ + kernels_.tile_rows - 1) / kernels_.tile_rows; }
  void run(BlockFeed& feed);

 private:
  struct Scratch;

  void screen_block(size_t first_row, size_t count, Scratch& scratch) const;

  const Kernels& kernels_;
  size_t dim_;
  const PackedCodebook& codebook_;
  const float* vectors_;
  size_t count_;
  int32_t* codes_;
};

}  // namespace rvq::cpu
