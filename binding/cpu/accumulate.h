// Counts and sums of the vectors of every codeword, as integers on a grid for each dimension.

#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <optional>
#include <vector>

#include "../block_feed.h"
#include "codes.h"
#include "kernels.h"

namespace rvq::cpu {

struct AccumulateRequest {
  const float* vectors;  // [count][dim]
  size_t count;
  size_t dim;
  Codes codes;  // [count]
  // [count], where the rows are in the statistics already: the codes under which they are.
  std::optional<Codes> previous;
  size_t num_codewords;
  const int32_t* grid_exponents;  // [dim]
  double* counts;                 // in and out [num_codewords]
  double* sums;                   // in and out [num_codewords][dim]
};

// One accumulate call. The first thread sorts the rows by code; a block is then a range of codewords with all of their
// rows, so that no two threads write to one place. Integer sums are exact in any order, and rows that move from one
// codeword to another are taken out as exactly as they were put in.
class Accumulate {
 public:
  // At most 2^32 − 1 rows.
  Accumulate(const Kernels& kernels, const AccumulateRequest& request) : kernels_(kernels), request_(request) {}

  size_t blocks() const;
  double work() const { return 2.0 * static_cast<double>(request_.count) * static_cast<double>(request_.dim); }
  void run(BlockFeed& feed);
  // A code had no codeword; nothing was added.
  bool code_out_of_range() const { return out_of_range_.load(std::memory_order_relaxed); }

 private:
  // Rows by codeword.
  struct Members {
    std::vector<size_t> first;   // [num_codewords + 1], in rows
    std::vector<uint32_t> rows;  // ascending within a codeword
  };

  bool sort_rows();
  template <typename Code, typename Other>
  bool sort(const Code* codes, const Other* others, Members& members) const;
  void cut_blocks();
  void add(size_t codeword, const Members& members, const std::vector<double>& inverse_grids) const;

  const Kernels& kernels_;
  const AccumulateRequest request_;
  std::once_flag sorted_;
  std::atomic<bool> out_of_range_{false};
  Members arriving_;
  Members leaving_;
  std::vector<size_t> block_begins_;   // [blocks() + 1], codewords
  std::vector<double> inverse_grids_;  // [dim]
  std::vector<double> negated_grids_;  // [dim]: a negated number rounds to the negated integer
};

}  // namespace rvq::cpu
