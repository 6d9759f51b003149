// A step of k-means: the nearest codeword of every row and the distance to it.

#pragma once

#include <atomic>
#include <cstddef>

#include "../block_feed.h"
#include "codebook.h"
#include "codes.h"
#include "kernels.h"
#include "moved_codewords.h"

namespace rvq::cpu {

struct AssignRequest {
  const float* vectors;  // [count][dim], finite; with the cosine metric none is zero
  size_t count;
  Codes codes;              // [count]; out, and in where there are moved codewords
  double* distances;        // out [count], weighted where there are weights
  double* plain_distances;  // out [count] without weights, or null
};

// One assign call over the first stage; `run` is called by every thread that takes part.
//
// With `moved`, the codes are on entry the answer for the codewords as they were. A row whose own codeword has not gone
// farther away, d64(x, own) ≤ d64(x, own as it was), is nearer to it than to every codeword that stayed: those were not
// nearer before (nor equally near with a lower code), and are where they were. So only the moved ones are searched for
// it, and the winner is compared with its own by d64 and code. All other rows are searched in full. Nothing here is
// rounded or estimated: it is the canonical distance that decides, and the answer is that of a full search.
class Assign {
 public:
  Assign(const Kernels& kernels, const Codebooks& codebooks, const MovedCodewords* moved, const AssignRequest& request)
      : kernels_(kernels), codebooks_(codebooks), stage_(codebooks.stages[0]), moved_(moved), request_(request) {}

  size_t blocks() const { return (request_.count + kBlockRows - 1) / kBlockRows; }
  // Multiply-adds of the call, about.
  double work() const;
  void run(BlockFeed& feed);
  // A code on entry had no codeword; what was written is then incomplete.
  bool code_out_of_range() const { return out_of_range_.load(std::memory_order_relaxed); }

 private:
  // Rows wait until they fill a tile; several blocks may go into one. A block is what threads share out.
  static constexpr size_t kBlockRows = 96;

  struct Scratch;

  bool queue(size_t row, Scratch& scratch) const;
  void search_in_full(Scratch& scratch) const;
  void search_moved(Scratch& scratch) const;
  // What distances are measured from: the row, or with the cosine metric its unit vector; null where it has none.
  const float* query(const float* row, Scratch& scratch) const;
  double distance(const float* query, const float* codeword) const;
  void write(size_t row, const float* elements, uint32_t code) const;

  const Kernels& kernels_;
  const Codebooks& codebooks_;
  const Stage& stage_;
  const MovedCodewords* moved_;  // or null
  const AssignRequest request_;
  std::atomic<bool> out_of_range_{false};
};

}  // namespace rvq::cpu
