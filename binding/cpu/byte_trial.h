// Whether the 8-bit screen pays on the data at hand: found out by trying it, block by block, on one stage.
//
// Nothing is known about the rows when a codebook is prepared, so the first block is a probe. What decides is a count
// and not a clock: the places where a group of codewords reaches a row's best lower bound. Each costs a copy of scores
// and about one distance, and the screen pays while they cost less than it saves. A block that has twice as many is
// given up on the spot and screened in 16 bits; a few blocks that have somewhat too many end the trial too. Then the
// screen rests before its next probe. The answers are the same either way.

#pragma once

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>

namespace rvq::cpu {

// Shared by all threads of all calls on a stage. Without locks: a count that is lost in a race delays a decision.
class ByteTrial {
 public:
  enum class Turn { kNo, kYes, kProbe };

  // What to do with the next block. While the screen rests, blocks are counted down, and one of them is the next probe.
  Turn take() {
    int64_t rest = rest_.load(std::memory_order_relaxed);
    while (rest > 0) {
      int64_t next = rest == 1 ? kProbing : rest - 1;
      if (rest_.compare_exchange_weak(rest, next, std::memory_order_relaxed)) {
        return rest == 1 ? Turn::kProbe : Turn::kNo;
      }
    }
    return Turn::kYes;
  }

  // What came of a turn that was not kNo: the block's hits, or more than most_hits where it was given up.
  void report(Turn turn, size_t rows, size_t codewords, size_t hits) {
    int64_t paying = static_cast<int64_t>(paying_hits(rows, codewords));
    int64_t excess = static_cast<int64_t>(hits) - paying;
    if (turn == Turn::kProbe) {
      excess_.store(0, std::memory_order_relaxed);
      rest_.store(excess <= 0 ? 0 : kRestBlocks, std::memory_order_relaxed);
      return;
    }
    excess = std::max<int64_t>(0, excess_.load(std::memory_order_relaxed) + excess);
    if (excess > paying) {
      excess = 0;
      rest_.fetch_add(kRestBlocks, std::memory_order_relaxed);
    }
    excess_.store(excess, std::memory_order_relaxed);
  }

  // The hits with which a block is given up.
  static size_t most_hits(size_t rows, size_t codewords) { return 2 * paying_hits(rows, codewords); }
  // What a row counts that must be screened again, alone and in float32.
  static size_t hits_of_row(size_t codewords) { return codewords / kCodewordsARow; }

 private:
  static size_t paying_hits(size_t rows, size_t codewords) { return rows * codewords / kCodewordsAHit; }

  // Measured with AVX2 at 128 and 256 dimensions: 55 and 110 ns a hit, 0.84 and 1.83 ns saved a codeword.
  static constexpr size_t kCodewordsAHit = 64;
  // As well: 6.5 µs a row of 128 dimensions and 1024 codewords, 120 hits.
  static constexpr size_t kCodewordsARow = 8;
  // A block that is given up has cost at most half a block more: less than 1 % of these.
  static constexpr int64_t kRestBlocks = 64;
  // Longer than any probe takes.
  static constexpr int64_t kProbing = int64_t{1} << 40;

  // 0: every block is screened in bytes. Else the blocks until the next probe, that one included.
  std::atomic<int64_t> rest_{1};
  // Hits of the last blocks beyond those that pay.
  std::atomic<int64_t> excess_{0};
};

}  // namespace rvq::cpu
