// Packing: codes as numbers of a few bits each, one after the other; lib/pack-layout.ts defines the layout.

#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "codes.h"

namespace rvq::cpu {

// A number of more bits could not be divided exactly by the loops in TypeScript.
inline constexpr unsigned kMostNumberBits = 52;

// Divides numbers below 2^52 by 1 … 2^24, exactly: with shift = 52 + ⌈log2 size⌉ and reciprocal = ⌊2^shift / size⌋ + 1
// (Granlund and Montgomery, Division by Invariant Integers using Multiplication, 1994).
struct PackDivisor {
  uint32_t size;
  unsigned shift;
  uint64_t reciprocal;

  uint64_t quotient(uint64_t number) const {
    return static_cast<uint64_t>(static_cast<unsigned __int128>(number) * reciprocal >> shift);
  }
};

// Successive codes c_0, c_1, … in one number c_0 + size_0 · (c_1 + size_1 · (…)).
struct PackGroup {
  explicit PackGroup(std::vector<uint32_t> code_sizes);

  std::vector<uint32_t> sizes;
  std::vector<PackDivisor> divisors;
  unsigned bits;  // of the product of the sizes; more than kMostNumberBits where that is too large
};

// Codes of the same stages of all rows, without a gap from a whole byte on.
struct PackSection {
  size_t first_stage;
  size_t stages;
  std::vector<PackGroup> groups;  // what repeats; with several stages the groups of one row

  size_t period() const;  // codes of all groups
  size_t size_bytes(size_t codes) const;
};

struct PackLayout {
  size_t stages;
  std::vector<PackSection> sections;

  size_t size_bytes(size_t rows) const;
};

// bytes[layout.size_bytes(rows)] of codes[rows][stages]; false where a code is not below its size: the bytes are then
// incomplete.
bool pack(const Codes& codes, size_t rows, const PackLayout& layout, uint8_t* bytes);

enum class Unpacked { kWhole, kOutOfRange, kPadding };

// The inverse. kPadding: a bit after the last number of a section is set, and all codes are below their sizes.
Unpacked unpack(const uint8_t* bytes, size_t rows, const PackLayout& layout, const Codes& codes);

}  // namespace rvq::cpu
