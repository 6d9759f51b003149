// Memory of a device, and pinned memory of the host, each with one owner.

#pragma once

#include <cstddef>
#include <utility>

namespace rvq::cuda {

// Makes a device current for this thread while it lives. Then the one before is current again, but only where it has a
// context: making it current would make one, which takes hundreds of MiB of a device that nobody asked for, and fails
// where it is another program's.
class CurrentDevice {
 public:
  explicit CurrentDevice(int device);
  ~CurrentDevice();
  CurrentDevice(const CurrentDevice&) = delete;
  CurrentDevice& operator=(const CurrentDevice&) = delete;

 private:
  int previous_ = 0;
  bool changed_ = false;
};

// Bytes of the device that is current when it is made; aligned to 256. Freed on any thread.
class DeviceBytes {
 public:
  DeviceBytes() = default;
  // Throws a Failure of kind kOutOfMemory where there are not so many.
  explicit DeviceBytes(size_t bytes);
  ~DeviceBytes();
  DeviceBytes(DeviceBytes&& other) noexcept;
  DeviceBytes& operator=(DeviceBytes&& other) noexcept;

  void* data() const { return data_; }
  size_t size() const { return size_; }

 private:
  void* data_ = nullptr;
  size_t size_ = 0;
  int device_ = 0;
};

template <typename T>
class DeviceArray {
 public:
  DeviceArray() = default;
  explicit DeviceArray(size_t length) : bytes_(length * sizeof(T)), length_(length) {}
  explicit DeviceArray(DeviceBytes bytes) : bytes_(std::move(bytes)), length_(bytes_.size() / sizeof(T)) {}

  T* data() const { return static_cast<T*>(bytes_.data()); }
  size_t size() const { return length_; }
  size_t size_bytes() const { return bytes_.size(); }

 private:
  DeviceBytes bytes_;
  size_t length_ = 0;
};

// Page-locked memory of the host: copies from and to it run beside everything else. It is there as long as the context
// of the device that is current when it is made. Freed on any thread.
class PinnedBytes {
 public:
  PinnedBytes() = default;
  explicit PinnedBytes(size_t bytes);
  ~PinnedBytes();
  PinnedBytes(PinnedBytes&& other) noexcept;
  PinnedBytes& operator=(PinnedBytes&& other) noexcept;

  void* data() const { return data_; }
  size_t size() const { return size_; }

 private:
  void* data_ = nullptr;
  size_t size_ = 0;
  int device_ = 0;
};

}  // namespace rvq::cuda
