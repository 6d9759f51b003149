// Residual encoding: all stages over one block of rows after the other.

#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>

#include "../block_feed.h"
#include "codebook.h"
#include "codes.h"
#include "input_check.h"
#include "kernels.h"

namespace rvq::cpu {

struct EncodeRequest {
  const float* vectors;  // [count][dim]
  size_t count;
  size_t stages;
  Codes codes;       // out [count][stages]
  float* residuals;  // out [count][dim] or null; may be `vectors`
};

// One encode call. `run` is called by every thread that takes part; each block belongs to one thread.
class Encode {
 public:
  Encode(const Kernels& kernels, const Codebooks& codebooks, const EncodeRequest& request, size_t threads);

  size_t blocks() const { return (request_.count + block_rows_ - 1) / block_rows_; }
  // Multiply-adds of the whole call, about.
  double work() const;
  void run(BlockFeed& feed);

  std::optional<BadInput> bad_input() const { return check_.bad_input(); }

 private:
  friend class StageSearch;
  struct Scratch;

  void run(BlockFeed& feed, Scratch& scratch);
  void encode_block(size_t first_row, size_t count, Scratch& scratch) const;
  void search(const Stage& stage, size_t first, size_t count, Scratch& scratch) const;
  size_t keep_near(const Stage& stage, const float* row, Scratch& scratch) const;

  const Kernels& kernels_;
  const Codebooks& codebooks_;
  const EncodeRequest request_;
  InputCheck check_;
  size_t block_rows_;
};

// The search of a single stage, for other operations of the core.
class StageSearch {
 public:
  // For at most max_rows ≤ kernels.tile_rows rows at a time.
  StageSearch(const Kernels& kernels, const Codebooks& codebooks, size_t max_rows);
  ~StageSearch();

  float* rows();  // [max_rows][padded_dim], to be filled, with zeros from dim on
  // The nearest of the stage's distinct codewords for the first `count` rows: codes[count], until the next run.
  const uint32_t* run(const Stage& stage, size_t count);

 private:
  Encode encode_;
  std::unique_ptr<Encode::Scratch> scratch_;
};

}  // namespace rvq::cpu
