// The rooms of the process, by their addresses.

#include "staging_room.h"

#include <iterator>
#include <map>
#include <mutex>
#include <utility>

#include "device_state.h"
#include "failure.h"

namespace rvq::cuda {

namespace {

struct Rooms {
  std::mutex mutex;
  std::map<const char*, std::weak_ptr<const PinnedBytes>> by_start;
  size_t bytes = 0;
  size_t found = 0;
};

// Never destroyed: arrays may be collected at the end of the process.
Rooms& rooms() {
  static Rooms* rooms = new Rooms;
  return *rooms;
}

void forget(const PinnedBytes* room) {
  {
    std::lock_guard<std::mutex> lock(rooms().mutex);
    rooms().by_start.erase(static_cast<const char*>(room->data()));
    rooms().bytes -= room->size();
  }
  delete room;
}

void give_back(size_t bytes) {
  std::lock_guard<std::mutex> lock(rooms().mutex);
  rooms().bytes -= bytes;
}

}  // namespace

Room make_room(int device, size_t bytes) {
  {
    std::lock_guard<std::mutex> lock(rooms().mutex);
    if (bytes > kMostRoomBytes - rooms().bytes) {
      throw Failure(Failure::Kind::kOutOfMemory, "more pinned memory than rooms may have");
    }
    rooms().bytes += bytes;
  }
  std::unique_ptr<PinnedBytes> pinned;
  try {
    on_device(device, [&] { pinned = std::make_unique<PinnedBytes>(bytes); });
  } catch (...) {
    give_back(bytes);
    throw;
  }
  Room room(pinned.release(), forget);
  std::lock_guard<std::mutex> lock(rooms().mutex);
  rooms().by_start.emplace(static_cast<const char*>(room->data()), room);
  return room;
}

Room room_of(const void* data, size_t bytes) {
  const char* first = static_cast<const char*>(data);
  Room room;
  {
    std::lock_guard<std::mutex> lock(rooms().mutex);
    auto after = rooms().by_start.upper_bound(first);
    if (after == rooms().by_start.begin()) return nullptr;
    room = std::prev(after)->second.lock();
  }
  // Its last holder has just let go of it.
  if (!room) return nullptr;
  size_t offset = static_cast<size_t>(first - static_cast<const char*>(room->data()));
  bool inside = offset <= room->size() && bytes <= room->size() - offset;
  return inside ? room : nullptr;
}

bool is_pinned(const void* data, size_t bytes) {
  if (room_of(data, bytes) == nullptr) return false;
  std::lock_guard<std::mutex> lock(rooms().mutex);
  rooms().found++;
  return true;
}

RoomUse room_use() {
  std::lock_guard<std::mutex> lock(rooms().mutex);
  return {rooms().bytes, rooms().found};
}

}  // namespace rvq::cuda
