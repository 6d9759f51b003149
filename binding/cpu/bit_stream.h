// Numbers of a few bits each, one after the other in bytes, from the lowest bit up.

#pragma once

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>

namespace rvq::cpu {

static_assert(std::endian::native == std::endian::little);

inline uint64_t low_bits(unsigned bits) { return bits == 64 ? ~uint64_t{0} : (uint64_t{1} << bits) - 1; }

class BitWriter {
 public:
  explicit BitWriter(uint8_t* bytes) : next_(bytes) {}

  // The lowest `bits` ≤ 64 of a number that has no others.
  void put(uint64_t number, unsigned bits) {
    word_ |= number << fill_;
    fill_ += bits;
    if (fill_ < 64) return;
    std::memcpy(next_, &word_, 8);
    next_ += 8;
    fill_ -= 64;
    word_ = fill_ == 0 ? 0 : number >> (bits - fill_);
  }

  void finish() {
    if (fill_ > 0) std::memcpy(next_, &word_, (fill_ + 7) / 8);
  }

 private:
  uint8_t* next_;
  uint64_t word_ = 0;
  unsigned fill_ = 0;  // below 64
};

class BitReader {
 public:
  BitReader(const uint8_t* bytes, size_t num_bytes) : next_(bytes), end_(bytes + num_bytes) {}

  // 0 < bits ≤ 64; zeros after the end.
  uint64_t take(unsigned bits) {
    uint64_t number = word_;
    if (left_ >= bits) {
      word_ >>= bits;  // left_ < 64
      left_ -= bits;
    } else {
      uint64_t following = load();
      number |= following << left_;
      unsigned taken = bits - left_;
      word_ = taken == 64 ? 0 : following >> taken;
      left_ = 64 - taken;
    }
    return number & low_bits(bits);
  }

  // What is left of the last bytes.
  bool rest_is_zero() const { return word_ == 0; }

 private:
  uint64_t load() {
    uint64_t word = 0;
    size_t available = std::min<size_t>(8, static_cast<size_t>(end_ - next_));
    if (available == 8) {
      std::memcpy(&word, next_, 8);
    } else if (available > 0) {
      std::memcpy(&word, next_, available);
    }
    next_ += available;
    return word;
  }

  const uint8_t* next_;
  const uint8_t* end_;
  uint64_t word_ = 0;
  unsigned left_ = 0;  // below 64
};

}  // namespace rvq::cpu
