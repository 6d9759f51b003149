// Rooms: pinned memory in which the host puts rows for a device, and finds those from it, without a lane's memory in
// between.

#pragma once

#include <cstddef>
#include <memory>

#include "device_memory.h"

namespace rvq::cuda {

// All rooms of the process together: pinned memory is the system's no more.
constexpr size_t kMostRoomBytes = size_t{256} << 20;

using Room = std::shared_ptr<const PinnedBytes>;

// Whoever holds the pointer keeps the memory. Throws a Failure of kind kOutOfMemory where there is none for it.
Room make_room(int device, size_t bytes);

// The room that an array lies in, to be held while anybody reads or writes it; null where it is in none.
Room room_of(const void* data, size_t bytes);

// Whether an array lies in a room: a device reads and writes it there. Calls hold it.
bool is_pinned(const void* data, size_t bytes);

// For tests: the bytes of all rooms that there are, and how many arrays have been found pinned.
struct RoomUse {
  size_t bytes;
  size_t found;
};
RoomUse room_use();

}  // namespace rvq::cuda
