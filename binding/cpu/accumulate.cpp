// Counts and sums of the vectors of every codeword: a counting sort, then one codeword after the other.

#include "accumulate.h"

#include <algorithm>
#include <cmath>

namespace rvq::cpu {

namespace {

// Enough for the threads to share out evenly, few enough to hide the hand-over.
constexpr size_t kMostBlocks = 64;

// Rows of a codeword lie anywhere in memory: each is fetched this many rows before its turn.
constexpr size_t kRowsAhead = 6;

void prefetch(const float* row, size_t dim) {
  constexpr size_t kLine = 16;  // elements
  for (size_t i = 0; i < dim; i += kLine) __builtin_prefetch(row + i);
}

}  // namespace

size_t Accumulate::blocks() const { return request_.count == 0 ? 0 : std::min(kMostBlocks, request_.num_codewords); }

void Accumulate::run(BlockFeed& feed) {
  std::call_once(sorted_, [this] {
    if (sort_rows()) {
      cut_blocks();
      for (size_t i = 0; i < request_.dim; i++) inverse_grids_.push_back(std::ldexp(1.0, -request_.grid_exponents[i]));
    } else {
      out_of_range_.store(true, std::memory_order_relaxed);
    }
  });
  if (code_out_of_range()) return feed.stop();

  while (auto block = feed.next()) {
    for (size_t k = block_begins_[*block]; k < block_begins_[*block + 1]; k++) {
      request_.counts[k] += static_cast<double>(first_row_[k + 1] - first_row_[k]);
      for (size_t at = first_row_[k]; at < first_row_[k + 1]; at++) {
        if (at + kRowsAhead < request_.count) {
          prefetch(request_.vectors + rows_[at + kRowsAhead] * request_.dim, request_.dim);
        }
        kernels_.add_rounded(request_.sums + k * request_.dim, request_.vectors + rows_[at] * request_.dim,
                             request_.dim, inverse_grids_.data());
      }
    }
  }
}

bool Accumulate::sort_rows() {
  first_row_.assign(request_.num_codewords + 1, 0);
  for (size_t n = 0; n < request_.count; n++) {
    size_t code = request_.codes.get(n);
    if (code >= request_.num_codewords) return false;
    first_row_[code + 1]++;
  }
  for (size_t k = 0; k < request_.num_codewords; k++) first_row_[k + 1] += first_row_[k];

  rows_.resize(request_.count);
  std::vector<size_t> next(first_row_.begin(), first_row_.end() - 1);
  for (size_t n = 0; n < request_.count; n++) rows_[next[request_.codes.get(n)]++] = static_cast<uint32_t>(n);
  return true;
}

// Ranges of codewords with about as many rows each.
void Accumulate::cut_blocks() {
  size_t wanted = blocks();
  block_begins_.assign(1, 0);
  for (size_t block = 1; block < wanted; block++) {
    auto begin = std::lower_bound(first_row_.begin(), first_row_.end() - 1, request_.count * block / wanted);
    block_begins_.push_back(std::max(block_begins_.back(), static_cast<size_t>(begin - first_row_.begin())));
  }
  block_begins_.push_back(request_.num_codewords);
}

}  // namespace rvq::cpu
