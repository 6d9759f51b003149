// Hopper's products, barriers and bulk copies on the processor.

#include "warpgroup.h"

#include <cstdio>
#include <cstdlib>
#include <vector>

#include "products.h"

namespace emulation::warpgroup {

namespace {

// A barrier in shared memory, where the device has its own form.
struct Barrier {
  uint16_t arrivals;  // that complete a phase
  uint16_t missing;   // of this phase
  uint32_t phase;     // that is not complete: its lowest bit
};
static_assert(sizeof(Barrier) == sizeof(uint64_t));

struct Copy {
  uint32_t shared;
  const void* global;
  uint32_t bytes;
  uint32_t barrier;
};

// One of the arrivals of the phase.
void complete(Barrier& at) {
  tell();
  if (--at.missing > 0) return;
  at.missing = at.arrivals;
  at.phase++;
}

// Asked for and not done. Blocks run one at a time, and wait for all of their copies.
std::vector<Copy> asked;

// A token of those who arrive at a barrier in a phase.
const void* arrivals_at(uint32_t barrier, uint32_t phase) { return dynamic_shared() + barrier + phase % 2 * 4; }

Barrier& barrier_at(uint32_t address) {
  if (address % sizeof(Barrier) != 0) {
    std::fprintf(stderr, "CUDA emulation: a barrier that is not aligned\n");
    std::abort();
  }
  return *reinterpret_cast<Barrier*>(dynamic_shared() + address);
}

// Of the thread's row or codeword of a group of eight: two slots of each half.
struct Slots {
  uint32_t first;
  uint32_t second;
};

// Core matrices of eight rows or codewords and eight slots, by the offsets of the descriptor: from one half of the slots
// to the other, and from a group of eight to the next.
struct SlotPlaces {
  const unsigned char* first;
  const unsigned char* second;
};

SlotPlaces places_of(uint64_t descriptor, int group) {
  uint64_t start = (descriptor & 0x3fff) << 4;
  uint64_t from_half_to_half = (descriptor >> 16 & 0x3fff) << 4;
  uint64_t from_group_to_group = (descriptor >> 32 & 0x3fff) << 4;
  uint64_t row = lane() / 4;
  uint64_t slot = lane() % 4 * 2;
  const unsigned char* at = dynamic_shared() + start + group * from_group_to_group + row * 16 + slot * 2;
  return {at, at + from_half_to_half};
}

Slots slots_of(uint64_t descriptor, int group) {
  SlotPlaces at = places_of(descriptor, group);
  Slots slots;
  std::memcpy(&slots.first, at.first, sizeof slots.first);
  std::memcpy(&slots.second, at.second, sizeof slots.second);
  return slots;
}

}  // namespace

bool has_warpgroups() {
  static const bool has = [] {
    const char* text = std::getenv("RVQ_EMULATED_WGMMA");
    return text != nullptr && std::atoi(text) != 0;
  }();
  return has;
}

uint32_t shared_address(const void* shared) {
  return static_cast<uint32_t>(static_cast<const unsigned char*>(shared) - dynamic_shared());
}

uint4 operand_of(uint64_t descriptor) {
  int group = static_cast<int>(threadIdx.x) / 32 % 4 * 2;
  Slots upper = slots_of(descriptor, group);
  Slots lower = slots_of(descriptor, group + 1);
  return {upper.first, lower.first, upper.second, lower.second};
}

void tell_of_operand(uint64_t descriptor, int groups) {
  if (!races::kLooking) return;
  for (int group = 0; group < groups; group++) {
    SlotPlaces at = places_of(descriptor, group);
    races::read(at.first, sizeof(uint32_t));
    races::read(at.second, sizeof(uint32_t));
  }
}

void multiply_group(float (&sums)[4], const uint4& rows, uint64_t descriptor, int group) {
  Slots slots = slots_of(descriptor, group);
  multiply_add(sums, {rows.x, rows.y, rows.z, rows.w}, {slots.first, slots.second});
}

void init_barrier(uint32_t barrier, int arrivals) {
  barrier_at(barrier) = {static_cast<uint16_t>(arrivals), static_cast<uint16_t>(arrivals), 0};
}

void arrive(uint32_t barrier) {
  Barrier& at = barrier_at(barrier);
  races::release(arrivals_at(barrier, at.phase));
  complete(at);
}

bool has_completed(uint32_t barrier, uint32_t phase) {
  if (barrier_at(barrier).phase % 2 == phase) return false;
  races::acquire(arrivals_at(barrier, phase));
  return true;
}

void wait_for_phase(uint32_t barrier, uint32_t phase) {
  wait_until([=] {
    if (has_completed(barrier, phase)) return true;
    for (size_t i = 0; i < asked.size(); i++) {
      Copy copy = asked[i];
      if (copy.barrier != barrier) continue;
      asked.erase(asked.begin() + static_cast<std::ptrdiff_t>(i));
      races::Unseen unseen;
      std::memcpy(dynamic_shared() + copy.shared, copy.global, copy.bytes);
      complete(barrier_at(barrier));
      break;
    }
    return false;
  });
}

void copy_bulk(uint32_t shared, const void* global, uint32_t bytes, uint32_t barrier) {
  std::memset(dynamic_shared() + shared, 0xff, bytes);
  races::written(dynamic_shared() + shared, bytes);
  races::read(global, bytes);
  races::release(arrivals_at(barrier, barrier_at(barrier).phase));
  asked.push_back({shared, global, bytes, barrier});
}

}  // namespace emulation::warpgroup
