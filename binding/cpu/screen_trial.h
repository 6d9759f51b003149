// Whether a screen pays on the data at hand: found out by trying it, block by block, on one stage.
//
// Nothing is known about the rows when a codebook is prepared, so the first block is a probe. What decides is a count
// of clock cycles by a model, and not a clock: what it costs to look at the codewords that the screen leaves open,
// against what the screen saves. A block that costs twice as much is given up on the spot and screened otherwise; that
// ends the trial, and so do blocks that cost somewhat too much for a while. Then the screen rests before its next
// probe, after every probe that fails twice as long. The answers are the same either way.

#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>

namespace rvq::cpu {

// Shared by all threads of all calls on a stage. Without locks: a cost that is lost in a race delays a decision.
class ScreenTrial {
 public:
  enum class Turn { kNo, kYes, kProbe };

  // A block is given up once it costs so many times what it saves.
  static constexpr double kHopeless = 2;

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
  void report(Turn turn, double cost, double saved) {
    if (turn == Turn::kProbe) {
      bool pays = cost <= saved;
      excess_.store(0, std::memory_order_relaxed);
      rest_.store(pays ? 0 : next_rest_.load(std::memory_order_relaxed), std::memory_order_relaxed);
      lengthen(pays);
      return;
    }
    double excess = std::max(0.0, excess_.load(std::memory_order_relaxed) + cost - saved);
    if (excess > saved) {
      excess = 0;
      rest_.fetch_add(next_rest_.load(std::memory_order_relaxed), std::memory_order_relaxed);
    }
    excess_.store(excess, std::memory_order_relaxed);
  }

 private:
  void lengthen(bool pays) {
    int64_t rest = next_rest_.load(std::memory_order_relaxed);
    next_rest_.store(pays ? kFirstRest : std::min(2 * rest, kLongestRest), std::memory_order_relaxed);
  }

  // Blocks. One that is given up has cost less than another block: 2 % of the first rest at most.
  static constexpr int64_t kFirstRest = 64;
  static constexpr int64_t kLongestRest = 1024;
  // Longer than any probe takes.
  static constexpr int64_t kProbing = int64_t{1} << 40;

  // 0: the screen is used for every block. Else the blocks until the next probe, that one included.
  std::atomic<int64_t> rest_{1};
  std::atomic<int64_t> next_rest_{kFirstRest};
  // Cycles that the last blocks cost beyond what they saved.
  std::atomic<double> excess_{0};
};

}  // namespace rvq::cpu
