// The loops of packing: runs of codes into a stream of bits and back, with a look at every code's range.
//
// They work on copies of their reader or writer: those live in registers, which a byte that is written through a
// pointer might otherwise have changed.

#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <vector>

#include "bit_stream.h"
#include "packing.h"

namespace rvq::cpu {

template <typename Code>
bool all_below(const Code* codes, size_t count, uint32_t size) {
  if (sizeof(Code) == 2 && size > UINT16_MAX) return true;
  Code largest = static_cast<Code>(size - 1);
  Code beyond = 0;
  for (size_t i = 0; i < count; i++) beyond |= static_cast<Code>(codes[i] > largest ? 1 : 0);
  return beyond == 0;
}

// each(group, first code), from the first group on and over again; the last may be a part of one.
template <typename Code, typename Each>
void for_groups(const std::vector<PackGroup>& groups, Code* codes, size_t count, const Each& each) {
  Code* end = codes + count;
  const PackGroup* group = groups.data();
  while (codes < end) {
    size_t length = group->sizes.size();
    if (length > static_cast<size_t>(end - codes)) {
      return each(PackGroup({group->sizes.begin(), group->sizes.begin() + (end - codes)}), codes);
    }
    each(*group, codes);
    codes += length;
    if (++group == groups.data() + groups.size()) group = groups.data();
  }
}

// Four 16-bit codes of `bits` ≤ 16 bits in the four quarters of a word, and the same without gaps.
inline uint64_t close_gaps(uint64_t quarters, unsigned bits) {
  uint64_t halves = (quarters & 0x0000FFFF0000FFFF) | ((quarters & 0xFFFF0000FFFF0000) >> (16 - bits));
  return (halves & 0xFFFFFFFF) | ((halves >> 32) << (2 * bits));
}

inline uint64_t open_gaps(uint64_t number, unsigned bits) {
  uint64_t two = (uint64_t{1} << (2 * bits)) - 1;
  uint64_t one = ((uint64_t{1} << bits) - 1) * 0x0000000100000001;
  uint64_t halves = (number & two) | ((number >> (2 * bits)) << 32);
  return (halves & one) | ((halves & ~one) << (16 - bits));
}

// Codes of one size, each a number of its own.
template <typename Code>
bool pack_alike(const Code* codes, size_t count, const PackGroup& group, BitWriter& bits) {
  if (!all_below(codes, count, group.sizes[0])) return false;
  BitWriter writer = bits;
  unsigned width = group.bits;
  size_t i = 0;
  if (sizeof(Code) == 2 && width <= 16) {
    for (; i + 4 <= count; i += 4) {
      uint64_t quarters;
      std::memcpy(&quarters, codes + i, 8);
      writer.put(close_gaps(quarters, width), 4 * width);
    }
  }
  for (; i < count; i++) writer.put(codes[i], width);
  bits = writer;
  return true;
}

template <typename Code>
bool unpack_alike(BitReader& bits, const PackGroup& group, size_t count, Code* codes) {
  BitReader reader = bits;
  unsigned width = group.bits;
  size_t i = 0;
  if (sizeof(Code) == 2 && width <= 16) {
    for (; i + 4 <= count; i += 4) {
      uint64_t quarters = open_gaps(reader.take(4 * width), width);
      std::memcpy(codes + i, &quarters, 8);
    }
  }
  for (; i < count; i++) codes[i] = static_cast<Code>(reader.take(width));
  bits = reader;
  return all_below(codes, count, group.sizes[0]);
}

// Single codes of different sizes in as few words as they fit in; whole periods alone.
struct PackedWord {
  size_t codes;
  unsigned bits;  // at most 64
};

inline std::vector<PackedWord> words_of(const std::vector<PackGroup>& groups) {
  std::vector<PackedWord> words{{0, 0}};
  for (const PackGroup& group : groups) {
    if (words.back().bits + group.bits > 64) words.push_back({0, 0});
    words.back().codes++;
    words.back().bits += group.bits;
  }
  return words;
}

struct PackField {
  uint32_t size;
  unsigned bits;
};

inline std::vector<PackField> fields_of(const std::vector<PackGroup>& groups) {
  std::vector<PackField> fields;
  for (const PackGroup& group : groups) fields.push_back({group.sizes[0], group.bits});
  return fields;
}

template <typename Code>
bool pack_fields(const Code* codes, size_t count, const std::vector<PackGroup>& groups, BitWriter& bits) {
  BitWriter writer = bits;
  const std::vector<PackedWord> words = words_of(groups);
  const std::vector<PackField> fields = fields_of(groups);
  uint32_t beyond = 0;
  for (const Code* end = codes + count; codes < end;) {
    const PackField* field = fields.data();
    for (const PackedWord& word : words) {
      uint64_t number = 0;
      unsigned shift = 0;
      for (size_t i = 0; i < word.codes; i++, field++, codes++) {
        beyond |= *codes >= field->size ? 1 : 0;
        number |= static_cast<uint64_t>(*codes) << (shift & 63);
        shift += field->bits;
      }
      writer.put(number & low_bits(word.bits), word.bits);
    }
  }
  bits = writer;
  return beyond == 0;
}

template <typename Code>
bool unpack_fields(BitReader& bits, const std::vector<PackGroup>& groups, size_t count, Code* codes) {
  BitReader reader = bits;
  const std::vector<PackedWord> words = words_of(groups);
  const std::vector<PackField> fields = fields_of(groups);
  uint32_t beyond = 0;
  for (const Code* end = codes + count; codes < end;) {
    const PackField* field = fields.data();
    for (const PackedWord& word : words) {
      uint64_t number = word.bits == 0 ? 0 : reader.take(word.bits);
      for (size_t i = 0; i < word.codes; i++, field++, codes++) {
        auto code = static_cast<uint32_t>(number & low_bits(field->bits));
        number >>= field->bits;
        beyond |= code >= field->size ? 1 : 0;
        *codes = static_cast<Code>(code);
      }
    }
  }
  bits = reader;
  return beyond == 0;
}

// Any groups, over and over; the last may be a part of one.
template <typename Code>
bool pack_numbers(const Code* codes, size_t count, const std::vector<PackGroup>& groups, BitWriter& bits) {
  BitWriter writer = bits;
  uint32_t beyond = 0;
  auto put = [&](const PackGroup& group, const Code* first) {
    const uint32_t* sizes = group.sizes.data();
    uint64_t number = 0;
    for (size_t i = group.sizes.size(); i-- > 0;) {
      beyond |= first[i] >= sizes[i] ? 1 : 0;
      number = number * sizes[i] + first[i];
    }
    // What is beyond might have bits above the group's.
    writer.put(number & low_bits(group.bits), group.bits);
  };
  for_groups(groups, codes, count, put);
  bits = writer;
  return beyond == 0;
}

template <typename Code>
bool unpack_numbers(BitReader& bits, const std::vector<PackGroup>& groups, size_t count, Code* codes) {
  BitReader reader = bits;
  uint32_t beyond = 0;
  auto take = [&](const PackGroup& group, Code* first) {
    const PackDivisor* divisors = group.divisors.data();
    size_t last = group.sizes.size() - 1;
    uint64_t number = group.bits == 0 ? 0 : reader.take(group.bits);
    for (size_t i = 0; i < last; i++) {
      uint64_t quotient = divisors[i].quotient(number);
      first[i] = static_cast<Code>(number - quotient * divisors[i].size);
      number = quotient;
    }
    first[last] = static_cast<Code>(number);
    beyond |= number >= divisors[last].size ? 1 : 0;
  };
  for_groups(groups, codes, count, take);
  bits = reader;
  return beyond == 0;
}

enum class PackForm { kAlike, kFields, kNumbers };

inline PackForm form_of(const std::vector<PackGroup>& groups) {
  auto all = [&](auto holds) { return std::all_of(groups.begin(), groups.end(), holds); };
  if (!all([](const PackGroup& group) { return group.sizes.size() == 1; })) return PackForm::kNumbers;
  bool alike = all([&](const PackGroup& group) { return group.sizes[0] == groups[0].sizes[0]; });
  return alike && groups[0].bits > 0 ? PackForm::kAlike : PackForm::kFields;
}

template <typename Code>
bool pack_run(const Code* codes, size_t count, const PackSection& section, PackForm form, BitWriter& bits) {
  if (form == PackForm::kAlike) return pack_alike(codes, count, section.groups[0], bits);
  if (form == PackForm::kFields) return pack_fields(codes, count, section.groups, bits);
  return pack_numbers(codes, count, section.groups, bits);
}

template <typename Code>
bool unpack_run(BitReader& bits, const PackSection& section, PackForm form, size_t count, Code* codes) {
  if (form == PackForm::kAlike) return unpack_alike(bits, section.groups[0], count, codes);
  if (form == PackForm::kFields) return unpack_fields(bits, section.groups, count, codes);
  return unpack_numbers(bits, section.groups, count, codes);
}

}  // namespace rvq::cpu
