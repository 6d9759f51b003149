// Packing and unpacking: sections side by side, in runs.

#include "packing.h"

#include <algorithm>
#include <numeric>
#include <utility>
#include <vector>

#include "bit_stream.h"
#include "pack_loops.h"

namespace rvq::cpu {

namespace {

// Codes that are looked at, gathered and packed at a time: they stay in the first-level cache.
constexpr size_t kRunCodes = 1024;

unsigned bits_of(uint64_t values) { return values <= 1 ? 0 : 64 - static_cast<unsigned>(__builtin_clzll(values - 1)); }

// A section and how far it is done. Runs end after whole rows, or where one stage is all, after whole groups.
template <typename Bits>
struct Progress {
  const PackSection& section;
  Bits bits;
  size_t run_rows;
  PackForm form;
  size_t next_row = 0;
};

template <typename Bits, typename... Arguments>
Progress<Bits> begin(const PackSection& section, Arguments... arguments) {
  size_t codes = std::max<size_t>(kRunCodes / section.period(), 1) * section.period();
  return {section, Bits(arguments...), codes / section.stages, form_of(section.groups)};
}

// Runs each(progress, first row, rows) over all rows of all sections: side by side, so that rows are read from memory
// once.
template <typename Bits, typename Each>
bool for_runs(std::vector<Progress<Bits>>& sections, size_t rows, const Each& each) {
  for (size_t window_end = 0; window_end < rows;) {
    window_end = std::min(rows, window_end + kRunCodes);
    for (Progress<Bits>& section : sections) {
      while (section.next_row < window_end) {
        size_t count = std::min(section.run_rows, rows - section.next_row);
        if (!each(section, section.next_row, count)) return false;
        section.next_row += count;
      }
    }
  }
  return true;
}

template <typename Code>
bool pack_codes(const Code* codes, size_t rows, const PackLayout& layout, uint8_t* bytes) {
  std::vector<Progress<BitWriter>> sections;
  for (const PackSection& section : layout.sections) {
    sections.push_back(begin<BitWriter>(section, bytes));
    bytes += section.size_bytes(rows * section.stages);
  }
  std::vector<Code> column;
  bool below = for_runs(sections, rows, [&](Progress<BitWriter>& progress, size_t first, size_t count) {
    const PackSection& section = progress.section;
    const Code* run = codes + first * layout.stages + section.first_stage;
    if (section.stages < layout.stages) {
      column.resize(count);
      for (size_t row = 0; row < count; row++) column[row] = run[row * layout.stages];
      run = column.data();
    }
    return pack_run(run, count * section.stages, section, progress.form, progress.bits);
  });
  if (!below) return false;
  for (auto& section : sections) section.bits.finish();
  return true;
}

template <typename Code>
Unpacked unpack_codes(const uint8_t* bytes, size_t rows, const PackLayout& layout, Code* codes) {
  std::vector<Progress<BitReader>> sections;
  for (const PackSection& section : layout.sections) {
    size_t num_bytes = section.size_bytes(rows * section.stages);
    sections.push_back(begin<BitReader>(section, bytes, num_bytes));
    bytes += num_bytes;
  }
  std::vector<Code> column;
  bool below = for_runs(sections, rows, [&](Progress<BitReader>& progress, size_t first, size_t count) {
    const PackSection& section = progress.section;
    Code* run = codes + first * layout.stages + section.first_stage;
    if (section.stages == layout.stages) {
      return unpack_run(progress.bits, section, progress.form, count * section.stages, run);
    }
    column.resize(count);
    bool all_below = unpack_run(progress.bits, section, progress.form, count, column.data());
    for (size_t row = 0; row < count; row++) run[row * layout.stages] = column[row];
    return all_below;
  });
  if (!below) return Unpacked::kOutOfRange;
  bool padded = std::all_of(sections.begin(), sections.end(), [](const auto& one) { return one.bits.rest_is_zero(); });
  return padded ? Unpacked::kWhole : Unpacked::kPadding;
}

}  // namespace

PackGroup::PackGroup(std::vector<uint32_t> code_sizes) : sizes(std::move(code_sizes)) {
  uint64_t product = 1;
  bits = 0;
  for (uint32_t size : sizes) {
    unsigned shift = kMostNumberBits + bits_of(size);
    auto power = static_cast<unsigned __int128>(1) << shift;
    divisors.push_back({size, shift, static_cast<uint64_t>(power / size) + 1});
    if (bits_of(product) + bits_of(size) > 64) bits = 64;  // Past any doubt.
    product *= size;
  }
  bits = std::max(bits, bits_of(product));
}

size_t PackSection::period() const {
  return std::accumulate(groups.begin(), groups.end(), size_t{0},
                         [](size_t sum, const PackGroup& group) { return sum + group.sizes.size(); });
}

size_t PackSection::size_bytes(size_t codes) const {
  size_t of_period = 0;
  for (const PackGroup& group : groups) of_period += group.bits;
  size_t all = codes / period() * of_period;
  size_t left = codes % period();
  for (size_t g = 0; left > 0; g++) {
    size_t length = std::min(left, groups[g].sizes.size());
    const auto& sizes = groups[g].sizes;
    all += PackGroup({sizes.begin(), sizes.begin() + static_cast<ptrdiff_t>(length)}).bits;
    left -= length;
  }
  return (all + 7) / 8;
}

size_t PackLayout::size_bytes(size_t rows) const {
  size_t all = 0;
  for (const PackSection& section : sections) all += section.size_bytes(rows * section.stages);
  return all;
}

bool pack(const Codes& codes, size_t rows, const PackLayout& layout, uint8_t* bytes) {
  return codes.wide ? pack_codes(static_cast<const uint32_t*>(codes.data), rows, layout, bytes)
                    : pack_codes(static_cast<const uint16_t*>(codes.data), rows, layout, bytes);
}

Unpacked unpack(const uint8_t* bytes, size_t rows, const PackLayout& layout, const Codes& codes) {
  return codes.wide ? unpack_codes(bytes, rows, layout, static_cast<uint32_t*>(codes.data))
                    : unpack_codes(bytes, rows, layout, static_cast<uint16_t*>(codes.data));
}

}  // namespace rvq::cpu
