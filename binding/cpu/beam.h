// Beam search: residual encoding that keeps the best few partial paths of every row from stage to stage.

#pragma once

#include <cstddef>
#include <optional>

#include "../block_feed.h"
#include "codebook.h"
#include "input_check.h"
#include "kernels.h"
#include "search.h"

namespace rvq::cpu {

// Of a vector; the same in lib/check.ts.
inline constexpr size_t kMostHypotheses = 256;

// One call with the l2 metric and a beam of two or more; lib/backend.ts defines the answer. `run` is called by every
// thread that takes part; each block of vectors belongs to one thread.
class BeamEncode {
 public:
  BeamEncode(const Kernels& kernels, const Codebooks& codebooks, const EncodeRequest& request, size_t beam,
             size_t threads);

  size_t blocks() const { return (request_.count + block_vectors_ - 1) / block_vectors_; }
  // Multiply-adds of the whole call, about.
  double work() const;
  void run(BlockFeed& feed);
  std::optional<BadInput> bad_input() const { return check_.bad_input(); }

 private:
  struct Scratch;
  struct Child;

  void encode_block(size_t first_vector, size_t count, Scratch& scratch) const;
  void search_greedily(size_t first_vector, size_t count, Scratch& scratch) const;
  void search_stage(size_t stage, size_t count, Scratch& scratch) const;
  void search_last_stage(size_t stage, size_t count, Scratch& scratch) const;
  void choose_children(const Stage& stage, size_t vector, size_t vector_of_screen, Scratch& scratch) const;
  void keep(const Stage& stage, size_t row, uint32_t code, Scratch& scratch) const;
  void write(size_t vector, size_t v, Scratch& scratch) const;
  double error(const float* vector, const uint32_t* path, Scratch& scratch) const;
  bool is_finite(const float* row) const;

  const Kernels& kernels_;
  const Codebooks& codebooks_;
  const EncodeRequest request_;
  size_t beam_;
  InputCheck check_;
  size_t block_vectors_;
};

}  // namespace rvq::cpu
