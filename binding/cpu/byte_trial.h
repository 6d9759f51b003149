// Whether the 8-bit screen pays on the data at hand: found out by trying it, block by block, on one stage.
//
// Nothing is known about the rows when a codebook is prepared, so the first block is a probe. What decides is a count
// and not a clock: the places where a group of codewords reaches a row's best lower bound, each of which costs a copy
// of scores and about one distance. A block that has too many of them is given up on the spot and screened in 16 bits.
// The answers are the same either way.

#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>

namespace rvq::cpu {

// Shared by all threads of all calls on a stage.
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

  // What came of a turn that was not kNo.
  void report(Turn turn, bool paid) {
    if (turn == Turn::kProbe) {
      rest_.store(paid ? 0 : kRestBlocks, std::memory_order_relaxed);
    } else if (!paid) {
      rest_.fetch_add(kRestBlocks, std::memory_order_relaxed);
    }
  }

  // The hits that a block may have. A hit costs about as much as the 8-bit screen saves on this many codewords.
  static size_t most_hits(size_t rows, size_t codewords) { return rows * codewords / kCodewordsAHit; }

 private:
  static constexpr size_t kCodewordsAHit = 64;  // Measured with AVX2 at 64 … 768 dimensions.
  // A block that is given up has cost at most half a block more: less than 1 % of these.
  static constexpr int64_t kRestBlocks = 64;
  // Longer than any probe takes.
  static constexpr int64_t kProbing = int64_t{1} << 40;

  // 0: every block is screened in bytes. Else the blocks until the next probe, that one included.
  std::atomic<int64_t> rest_{1};
};

}  // namespace rvq::cpu
