// Hands out the blocks of one call, in order, to the threads that work on it.

#pragma once

#include <atomic>
#include <cstddef>
#include <optional>

namespace rvq {

class BlockFeed {
 public:
  explicit BlockFeed(size_t blocks) : blocks_(blocks) {}

  // The next block; nothing when all have been handed out, or after stop().
  std::optional<size_t> next() {
    size_t block = next_.load(std::memory_order_relaxed);
    while (block < blocks_) {
      if (next_.compare_exchange_weak(block, block + 1, std::memory_order_relaxed)) return block;
    }
    return std::nullopt;
  }

  // Blocks already handed out are finished; no other is begun.
  void stop() { next_.store(blocks_, std::memory_order_relaxed); }

  size_t blocks() const { return blocks_; }

 private:
  const size_t blocks_;
  std::atomic<size_t> next_{0};
};

}  // namespace rvq
