// Lanes: a stream each, with the pinned memory and the device memory that one piece of a call needs at a time.

#pragma once

#include <condition_variable>
#include <cstddef>
#include <memory>
#include <mutex>
#include <vector>

#include "device_memory.h"

struct CUstream_st;
struct CUevent_st;

namespace rvq::cuda {

// Memory that a lane keeps, and the number of lanes of a device: 384 MiB of each kind at most, used or not. Three
// chunks of a call are under way (lib/cuda/backend.ts): each finds lanes while the one before is still on the device.
constexpr size_t kLaneBytes = size_t{64} << 20;
constexpr size_t kMostLanes = 6;

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
    return stream_;
  }
  size_t host_bytes() const { return host_.size(); }

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
  CUstream_st* stream_ = nullptr;
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

  // Waits for one. Who has a lane must not: it takes another only where there is one.
  Lease acquire();
  // Null where all are in use.
  std::unique_ptr<Lease> try_acquire();
  // Frees the memory of those that nobody uses.
  void release_idle();

 private:
  std::unique_ptr<Lane> take();
  void put_back(std::unique_ptr<Lane> lane);

  std::mutex mutex_;
  std::condition_variable returned_;
  std::vector<std::unique_ptr<Lane>> idle_;
  size_t in_use_ = 0;
};

}  // namespace rvq::cuda
