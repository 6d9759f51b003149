// Lanes: a stream each, with the pinned memory and the device memory that one piece of a call needs at a time.

#pragma once

#include <condition_variable>
#include <cstddef>
#include <memory>
#include <mutex>
#include <vector>

#include "device_memory.h"
#include "stream.h"

struct CUevent_st;

namespace rvq::cuda {

// Memory of each kind that a lane keeps when nobody uses it, and the number of lanes of a device. Three chunks of a
// call are under way (lib/cuda/backend.ts): each finds lanes while the one before is still on the device.
constexpr size_t kLaneBytes = size_t{64} << 20;
constexpr size_t kMostLanes = 6;

// Device memory that one of them keeps instead, for arrays that stay on the device (resident.cu): to allocate and free
// it at every call would take a millisecond, and wait for all that the device does. So a device keeps 640 MiB at most,
// and 384 MiB of pinned memory. What calls need beyond that is freed at their end.
constexpr size_t kLargeLaneBytes = size_t{320} << 20;

// Calls of so few rows are over in less time than it takes to wake up: they wait without sleeping.
constexpr size_t kTinyRows = 64;

// What host and device memory hold at the same offsets is copied from one to the other.
class Lane {
 public:
  // On the current device.
  Lane();
  ~Lane();
  Lane(const Lane&) = delete;
  Lane& operator=(const Lane&) = delete;

  // Makes room, whose content is unspecified; the lane must be idle. Throws a Failure of kind kOutOfMemory.
  void reserve(size_t host_bytes, size_t device_bytes);

  template <typename T>
  T* host(size_t offset) const {
    return reinterpret_cast<T*>(static_cast<char*>(host_.data()) + offset);
  }
  template <typename T>
  T* device(size_t offset) const {
    return reinterpret_cast<T*>(static_cast<char*>(device_.data()) + offset);
  }
  // For work to be enqueued.
  CUstream_st* stream() {
    busy_ = true;
    return stream_.get();
  }
  size_t host_bytes() const { return host_.size(); }
  size_t device_bytes() const { return device_.size(); }

  void free_memory();

  // Enqueue copies of [begin, end).
  void upload(size_t begin, size_t end);
  void download(size_t begin, size_t end);
  // The same between the device and pinned memory that is not the lane's.
  void upload_from(const void* pinned, size_t begin, size_t bytes);
  void download_to(void* pinned, size_t begin, size_t bytes);

  // Until all that was enqueued is done. `patient`: the processor is free for others meanwhile, which costs some tens
  // of microseconds.
  void wait(bool patient);

  // For destructors: the same where it has not been waited for, whatever happened.
  void settle() noexcept;

 private:
  Stream stream_;
  CUevent_st* event_ = nullptr;
  bool busy_ = false;
  PinnedBytes host_;
  DeviceBytes device_;
};

// The lanes of a device, shared by all calls of the process; they are made when they are needed and kept.
class LanePool {
 public:
  static LanePool& of(int device);

  // A lane in use; goes back to the pool, idle, at the end.
  class Lease {
   public:
    Lease(LanePool* pool, std::unique_ptr<Lane> lane) : pool_(pool), lane_(std::move(lane)) {}
    Lease(Lease&&) noexcept = default;
    Lease& operator=(Lease&&) = delete;
    ~Lease();
    Lane& operator*() const { return *lane_; }
    Lane* operator->() const { return lane_.get(); }

   private:
    LanePool* pool_;
    std::unique_ptr<Lane> lane_;
  };

  // Waits for one, for a call that needs so much device memory. Who has a lane must not: it takes another only where
  // there is one.
  Lease acquire(size_t device_bytes);
  // Null where all are in use.
  std::unique_ptr<Lease> try_acquire(size_t device_bytes);
  // Frees the memory of those that nobody uses.
  void release_idle();

 private:
  std::unique_ptr<Lane> take(size_t device_bytes);
  bool keeps(const Lane& lane) const;
  void put_back(std::unique_ptr<Lane> lane);

  std::mutex mutex_;
  std::condition_variable returned_;
  std::vector<std::unique_ptr<Lane>> idle_;
  size_t in_use_ = 0;
};

// Frees the memory of the current device's lanes that nobody uses.
void release_idle_lanes();

// Memory of the current device; lanes that nobody uses make room where there is none.
DeviceBytes allocate_resident(size_t bytes);

}  // namespace rvq::cuda
