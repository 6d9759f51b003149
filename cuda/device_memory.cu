// Memory of a device, and pinned memory of the host.

#include "device_memory.h"

#include <cuda_runtime.h>

#include <utility>

#include "failure.h"

namespace rvq::cuda {

void check(int error, const char* what) {
  auto status = static_cast<cudaError_t>(error);
  if (status == cudaSuccess) return;
  cudaGetLastError();
  Failure::Kind kind = Failure::Kind::kOther;
  switch (status) {
    case cudaErrorMemoryAllocation:
      kind = Failure::Kind::kOutOfMemory;
      break;
    // Errors after which the runtime refuses every call of the process on this device.
    case cudaErrorIllegalAddress:
    case cudaErrorLaunchTimeout:
    case cudaErrorLaunchFailure:
    case cudaErrorHardwareStackError:
    case cudaErrorIllegalInstruction:
    case cudaErrorMisalignedAddress:
    case cudaErrorInvalidAddressSpace:
    case cudaErrorInvalidPc:
    case cudaErrorECCUncorrectable:
    case cudaErrorNvlinkUncorrectable:
    case cudaErrorDevicesUnavailable:
    case cudaErrorAssert:
      kind = Failure::Kind::kDeviceLost;
      break;
    default:
      break;
  }
  throw Failure(kind, std::string(what) + ": " + cudaGetErrorName(status) + ", " + cudaGetErrorString(status));
}

CurrentDevice::CurrentDevice(int device) {
  check(cudaGetDevice(&previous_), "cudaGetDevice");
  if (device != previous_) check(cudaSetDevice(device), "cudaSetDevice");
  changed_ = device != previous_;
}

CurrentDevice::~CurrentDevice() {
  if (changed_) cudaSetDevice(previous_);
}

DeviceBytes::DeviceBytes(size_t bytes) : size_(bytes) {
  if (bytes > 0) check(cudaMalloc(&data_, bytes), "cudaMalloc");
}

DeviceBytes::~DeviceBytes() {
  if (data_ != nullptr) cudaFree(data_);
}

DeviceBytes::DeviceBytes(DeviceBytes&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)) {}

DeviceBytes& DeviceBytes::operator=(DeviceBytes&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(size_, other.size_);
  return *this;
}

PinnedBytes::PinnedBytes(size_t bytes) : size_(bytes) {
  if (bytes > 0) check(cudaMallocHost(&data_, bytes), "cudaMallocHost");
}

PinnedBytes::~PinnedBytes() {
  if (data_ != nullptr) cudaFreeHost(data_);
}

PinnedBytes::PinnedBytes(PinnedBytes&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)) {}

PinnedBytes& PinnedBytes::operator=(PinnedBytes&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(size_, other.size_);
  return *this;
}

}  // namespace rvq::cuda
