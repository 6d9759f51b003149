// Search on codes: every coded vector is offered to every query by its key, the sum of what lookup tables hold for its
// codes. lib/backend.ts and lib/search/scan-codes.ts define it, to the bit.

#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <vector>

#include "../block_feed.h"
#include "codebook.h"

namespace rvq::cpu {

// Codes of `vectors` vectors, column by column.
struct CodeColumns {
  size_t vectors;
  const uint32_t* words;  // [num_words][vectors], four stages of bytes each, the first in the lowest byte
  size_t num_words;
  const void* singles;  // [num_singles][vectors], of the stages after those
  size_t num_singles;
  size_t single_bytes;  // 1, 2 or 4
};

struct CodeScanRequest {
  CodeColumns columns;
  const double* norms;                         // [vectors], or null
  std::vector<CodebookSpec::Stage> codebooks;  // [4 · num_words + num_singles]; those of words of at most 256 codewords
  size_t dim;
  const double* queries;  // [count][dim]
  size_t count;
  double factor;
  size_t candidates;  // at least 1
  double* keys;       // out [count][candidates], the smallest first
  uint32_t* ids;      // out [count][candidates]
};

// One scan. A block is a query and a range of vectors.
class CodeScan {
 public:
  explicit CodeScan(CodeScanRequest request);

  size_t blocks() const { return request_.count * ranges_; }
  double work() const;
  void run(BlockFeed& feed);

 private:
  struct Candidate {
    double key;
    uint32_t id;

    bool operator<(const Candidate& other) const { return key < other.key || (key == other.key && id < other.id); }
  };
  // The best of those offered so far: a heap whose root is the worst.
  class Ranking {
   public:
    explicit Ranking(size_t capacity) : capacity_(capacity) {}

    // What a key of a vector must be at most to be kept.
    double bound() const;
    void offer(const Candidate& candidate);
    std::vector<Candidate>& heap() { return heap_; }

   private:
    const size_t capacity_;
    std::vector<Candidate> heap_;
  };
  struct Query {
    explicit Query(size_t candidates) : best(candidates) {}

    std::once_flag filled;
    std::vector<double> tables;  // [stages], each of table_size()
    std::mutex mutex;
    Ranking best;         // guarded by mutex
    size_t finished = 0;  // ranges; guarded by mutex
  };

  size_t table_size(size_t stage) const;
  Query& query(size_t q);
  void fill_tables(const double* query, std::vector<double>& tables) const;
  void add_tables(const double* tables, size_t first, size_t count, double* sums) const;
  void scan_range(size_t q, size_t range, Query& query);

  const CodeScanRequest request_;
  const size_t ranges_;
  std::mutex mutex_;
  std::vector<std::unique_ptr<Query>> queries_;  // guarded by mutex_; null before its first block and after its last
};

}  // namespace rvq::cpu
