// Reads what is to be packed, and packs it.

#include "packing.h"

#include <utility>
#include <vector>

#include "arguments.h"
#include "cpu/packing.h"

namespace rvq {

namespace {

constexpr size_t kMostStages = 1 << 16;
constexpr int32_t kMostCodewords = 1 << 24;

struct PackRequest {
  cpu::Codes codes;
  size_t rows;
  cpu::PackLayout layout;
  uint8_t* bytes;
};

cpu::PackGroup group_of(const Arguments& arguments, const int32_t* sizes, size_t length) {
  std::vector<uint32_t> group_sizes;
  for (size_t i = 0; i < length; i++) {
    if (sizes[i] < 1 || sizes[i] > kMostCodewords) throw arguments.error("codebookSizes", "sizes in 1 … 2^24");
    group_sizes.push_back(static_cast<uint32_t>(sizes[i]));
  }
  cpu::PackGroup group(std::move(group_sizes));
  if (group.bits > cpu::kMostNumberBits) throw arguments.error("groupLengths", "groups of at most 52 bits");
  return group;
}

// One section of all stages, or with `stageMajor` one a stage.
cpu::PackLayout layout_of(const Arguments& arguments, const std::vector<int32_t>& sizes,
                          const std::vector<int32_t>& lengths, bool stage_major) {
  size_t stages = sizes.size();
  size_t groups = lengths.size();
  cpu::PackLayout layout{stages, {}};
  if (stage_major) {
    if (groups != stages) throw arguments.error("groups", "as many as stages");
    for (size_t stage = 0; stage < stages; stage++) {
      if (lengths[stage] < 1 || lengths[stage] > static_cast<int32_t>(cpu::kMostNumberBits)) {
        throw arguments.error("groupLengths", "lengths in 1 … 52");
      }
      std::vector<int32_t> alike(static_cast<size_t>(lengths[stage]), sizes[stage]);
      layout.sections.push_back({stage, 1, {group_of(arguments, alike.data(), alike.size())}});
    }
    return layout;
  }
  layout.sections.push_back({0, stages, {}});
  size_t first = 0;
  for (size_t g = 0; g < groups; g++) {
    if (lengths[g] < 1 || static_cast<size_t>(lengths[g]) > stages - first) break;
    layout.sections[0].groups.push_back(group_of(arguments, sizes.data() + first, static_cast<size_t>(lengths[g])));
    first += static_cast<size_t>(lengths[g]);
  }
  if (first != stages || layout.sections[0].groups.size() != groups) {
    throw arguments.error("groupLengths", "lengths that add up to stages");
  }
  return layout;
}

PackRequest read_request(const Napi::CallbackInfo& info) {
  Arguments arguments(info[0]);
  size_t stages = arguments.size_between("stages", 1, kMostStages);
  size_t groups = arguments.size_between("groups", 1, stages);
  const int32_t* sizes = arguments.integers("codebookSizes", stages);
  const int32_t* lengths = arguments.integers("groupLengths", groups);
  bool stage_major = arguments.boolean("stageMajor");
  size_t rows = arguments.size("count");
  cpu::Codes codes = arguments.codes("codes", product(info.Env(), rows, stages));
  size_t size_bytes = arguments.size("sizeBytes");
  uint8_t* bytes = arguments.bytes("bytes", size_bytes);
  arguments.check_left_alone();
  // Copies: another thread may write to shared memory after a number has been checked.
  cpu::PackLayout layout = layout_of(arguments, {sizes, sizes + stages}, {lengths, lengths + groups}, stage_major);
  // No more bits than 64 a code, which are fewer than an array of codes can have bytes.
  size_t expected = layout.size_bytes(rows);
  if (size_bytes != expected) throw arguments.error("sizeBytes", std::to_string(expected));
  return {codes, rows, std::move(layout), bytes};
}

}  // namespace

Napi::Value pack_codes(const Napi::CallbackInfo& info) {
  PackRequest request = read_request(info);
  return Napi::Boolean::New(info.Env(), cpu::pack(request.codes, request.rows, request.layout, request.bytes));
}

Napi::Value unpack_codes(const Napi::CallbackInfo& info) {
  PackRequest request = read_request(info);
  cpu::Unpacked found = cpu::unpack(request.bytes, request.rows, request.layout, request.codes);
  return Napi::Number::New(info.Env(), static_cast<double>(found));
}

}  // namespace rvq
