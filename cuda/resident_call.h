// A call on arrays that stay on a device: one lane, whose memory is made when it is known how much that is.

#pragma once

#include "device_state.h"
#include "failure.h"
#include "lane.h"
#include "row_stream.h"

namespace rvq::cuda {

// Runs `work(lane)` with a lane of the device that suits the memory that `need()` says is needed.
template <typename Need, typename Work>
void with_lane(int device, const Need& need, const Work& work) {
  on_device(device, [&] {
    PieceMemory memory = need();
    LanePool::Lease lane = LanePool::of(device).acquire(memory.device_bytes);
    work(*lane);
  });
}

// A failed reserve that may still come off: false once nobody else's idle memory is left.
inline bool reserve(Lane& lane, PieceMemory memory, bool least) {
  try {
    lane.reserve(memory.host_bytes, memory.device_bytes);
    return true;
  } catch (const Failure& failure) {
    if (failure.kind != Failure::Kind::kOutOfMemory) throw;
  }
  release_idle_lanes();
  if (!least) return false;
  lane.reserve(memory.host_bytes, memory.device_bytes);
  return true;
}

}  // namespace rvq::cuda
