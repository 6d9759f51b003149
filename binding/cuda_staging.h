// Pinned memory in which JavaScript stages rows: a device reads and writes it without another copy.

#pragma once

#include <napi.h>

#include <memory>

namespace rvq {

// cudaStagingRoom({ device, bytes }): a promise of an ArrayBuffer of pinned memory, whose content is unspecified; null
// where this environment allows no such buffers. Calls find out by themselves that their vectors lie in one, and keep
// its memory while they run, whatever becomes of the buffer.
Napi::Value cuda_staging_room(const Napi::CallbackInfo& info);

// What keeps the memory of a typed array that lies in a room; null for any other.
std::shared_ptr<const void> room_of_array(const Napi::Object& array);

#ifdef RVQ_TESTING
// cudaTestRooms(): { bytes, found }, the bytes of all rooms of the process, and how many arrays of calls have been
// found in one so far.
Napi::Value cuda_test_rooms(const Napi::CallbackInfo& info);
#endif

}  // namespace rvq
