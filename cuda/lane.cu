// Lanes: a stream each, with the pinned memory and the device memory that one piece of a call needs at a time.

#include "lane.h"

#include <cuda_runtime.h>

#include <algorithm>
#include <cstdint>
#include <map>

#include "device_state.h"
#include "failure.h"

namespace rvq::cuda {

namespace {

// Small calls soon find the memory of earlier ones large enough.
size_t rounded_up(size_t bytes) {
  constexpr size_t kStep = size_t{1} << 18;
  return (bytes + kStep - 1) / kStep * kStep;
}

bool is_large(const Lane& lane) { return lane.device_bytes() > kLaneBytes; }

// The least is taken: the smallest lane that has as much memory as is needed, else the largest, which grows; the large
// one last of all, unless it is for such calls.
size_t unfitness(const Lane& lane, size_t needed) {
  size_t bytes = lane.device_bytes();
  if (is_large(lane) && needed <= kLaneBytes) return SIZE_MAX;
  return bytes >= needed ? bytes : SIZE_MAX - 1 - bytes;
}

}  // namespace

Lane::Lane() {
  check(cudaEventCreateWithFlags(&event_, cudaEventBlockingSync | cudaEventDisableTiming), "cudaEventCreate");
}

Lane::~Lane() { ignore_failure(cudaEventDestroy(event_)); }

void Lane::reserve(size_t host_bytes, size_t device_bytes) {
  size_t most = test_limits().memory_bytes;
  if (most > 0 && device_bytes > most) throw Failure(Failure::Kind::kOutOfMemory, "more memory than the test's limit");
  // The old memory goes first: there may be no room for both.
  if (host_bytes > host_.size()) {
    host_ = PinnedBytes();
    host_ = PinnedBytes(rounded_up(host_bytes));
  }
  if (device_bytes > device_.size()) {
    device_ = DeviceBytes();
    device_ = DeviceBytes(rounded_up(device_bytes));
  }
}

void Lane::upload(size_t begin, size_t end) {
  if (begin == end) return;
  check(cudaMemcpyAsync(device<char>(begin), host<char>(begin), end - begin, cudaMemcpyHostToDevice, stream()),
        "copy to the device");
}

void Lane::download(size_t begin, size_t end) {
  if (begin == end) return;
  check(cudaMemcpyAsync(host<char>(begin), device<char>(begin), end - begin, cudaMemcpyDeviceToHost, stream()),
        "copy from the device");
}

void Lane::upload_from(const void* pinned, size_t begin, size_t bytes) {
  check(cudaMemcpyAsync(device<char>(begin), pinned, bytes, cudaMemcpyHostToDevice, stream()), "copy to the device");
}

void Lane::download_to(void* pinned, size_t begin, size_t bytes) {
  check(cudaMemcpyAsync(pinned, device<char>(begin), bytes, cudaMemcpyDeviceToHost, stream()), "copy from the device");
}

void Lane::wait(bool patient) {
  if (patient) {
    check(cudaEventRecord(event_, stream_.get()), "work on the device");
    check(cudaEventSynchronize(event_), "work on the device");
  } else {
    stream_.wait("work on the device");
  }
  busy_ = false;
}

void Lane::settle() noexcept {
  if (!busy_) return;
  busy_ = false;
  ignore_failure(cudaStreamSynchronize(stream_.get()));
}

LanePool& LanePool::of(int device) {
  static std::mutex mutex;
  // Never destroyed: threads of the pool may use them at the end of the process, when the runtime may be gone.
  static auto* pools = new std::map<int, LanePool>;
  std::lock_guard<std::mutex> lock(mutex);
  return (*pools)[device];
}

LanePool::Lease::~Lease() {
  if (!lane_) return;
  lane_->settle();
  pool_->put_back(std::move(lane_));
}

void Lane::free_memory() {
  host_ = PinnedBytes();
  device_ = DeviceBytes();
}

LanePool::Lease LanePool::acquire(size_t device_bytes) {
  std::unique_lock<std::mutex> lock(mutex_);
  returned_.wait(lock, [this] { return in_use_ < kMostLanes; });
  return {this, take(device_bytes)};
}

std::unique_ptr<LanePool::Lease> LanePool::try_acquire(size_t device_bytes) {
  std::lock_guard<std::mutex> lock(mutex_);
  if (in_use_ >= kMostLanes) return nullptr;
  return std::make_unique<Lease>(this, take(device_bytes));
}

// With the mutex held.
std::unique_ptr<Lane> LanePool::take(size_t device_bytes) {
  auto suited = std::min_element(idle_.begin(), idle_.end(), [device_bytes](const auto& a, const auto& b) {
    return unfitness(*a, device_bytes) < unfitness(*b, device_bytes);
  });
  bool leaves_large = suited != idle_.end() && device_bytes <= kLaneBytes && is_large(**suited);
  std::unique_ptr<Lane> lane;
  if (suited == idle_.end() || (leaves_large && idle_.size() + in_use_ < kMostLanes)) {
    lane = std::make_unique<Lane>();
  } else {
    lane = std::move(*suited);
    idle_.erase(suited);
  }
  in_use_++;
  return lane;
}

// With the mutex held: whether a lane may be idle as it is.
bool LanePool::keeps(const Lane& lane) const {
  if (lane.host_bytes() > kLaneBytes || lane.device_bytes() > kLargeLaneBytes) return false;
  return !is_large(lane) || std::none_of(idle_.begin(), idle_.end(), [](const auto& idle) { return is_large(*idle); });
}

void LanePool::put_back(std::unique_ptr<Lane> lane) {
  {
    std::unique_lock<std::mutex> lock(mutex_);
    if (!keeps(*lane)) {
      // Freeing waits for the device: others need not.
      lock.unlock();
      lane->free_memory();
      lock.lock();
    }
    idle_.push_back(std::move(lane));
    in_use_--;
  }
  returned_.notify_one();
}

void LanePool::release_idle() {
  std::vector<std::unique_ptr<Lane>> released;
  std::lock_guard<std::mutex> lock(mutex_);
  released.swap(idle_);
}

void release_idle_lanes() {
  int device = 0;
  check(cudaGetDevice(&device), "cudaGetDevice");
  LanePool::of(device).release_idle();
}

DeviceBytes allocate_resident(size_t bytes) {
  try {
    return DeviceBytes(bytes);
  } catch (const Failure& failure) {
    if (failure.kind != Failure::Kind::kOutOfMemory) throw;
  }
  release_idle_lanes();
  return DeviceBytes(bytes);
}

}  // namespace rvq::cuda
