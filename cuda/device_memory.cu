// Memory of a device, and pinned memory of the host.

#include "device_memory.h"

#include <cuda_runtime.h>

#include <exception>
#include <string>
#include <utility>

#include "failure.h"

namespace rvq::cuda {

namespace {

// Whether something in this process has made the device's context. The runtime cannot say; the driver, which it hands
// out, can: CUresult cuDevicePrimaryCtxGetState(CUdevice device, unsigned int* flags, int* active).
bool has_context(int device) {
  using GetState = int (*)(int device, unsigned* flags, int* active);
  void* entry = nullptr;
#if CUDART_VERSION >= 12050
  constexpr unsigned kVersion = 12000;
  auto error = cudaGetDriverEntryPointByVersion("cuDevicePrimaryCtxGetState", &entry, kVersion, cudaEnableDefault);
#else
  auto error = cudaGetDriverEntryPoint("cuDevicePrimaryCtxGetState", &entry, cudaEnableDefault);
#endif
  ignore_failure(error);
  unsigned flags = 0;
  int active = 0;
  return error == cudaSuccess && entry != nullptr && reinterpret_cast<GetState>(entry)(device, &flags, &active) == 0 &&
         active != 0;
}

// A device counts as lost after the errors of which CUDA's header (driver_types.h) says that the process must be
// terminated and relaunched, and those for which experience does. What may pass does not count: a device that is busy,
// or another program's, at the moment (cudaErrorDevicesUnavailable), or a server of MPS that is not ready.
Failure::Kind kind_of(int error) {
  // Names that headers of earlier versions of CUDA do not have.
  constexpr int kContained = 226;         // cudaErrorContained
  constexpr int kTensorMemoryLeak = 721;  // cudaErrorTensorMemoryLeak
  switch (error) {
    case cudaErrorMemoryAllocation:
      return Failure::Kind::kOutOfMemory;
    case kContained:
    case cudaErrorIllegalAddress:
    case cudaErrorLaunchTimeout:
    case cudaErrorAssert:
    case cudaErrorHardwareStackError:
    case cudaErrorIllegalInstruction:
    case cudaErrorMisalignedAddress:
    case cudaErrorInvalidAddressSpace:
    case cudaErrorInvalidPc:
    case cudaErrorLaunchFailure:
    case kTensorMemoryLeak:
    case cudaErrorMpsClientTerminated:
    case cudaErrorExternalDevice:
    // The header names no consequence. Memory errors that cannot be corrected end the context.
    case cudaErrorECCUncorrectable:
    case cudaErrorNvlinkUncorrectable:
    // Something in the process has destroyed the context, and with it all memory and streams.
    case cudaErrorContextIsDestroyed:
    // What the driver says when a device has fallen off the bus, or after the machine has slept.
    case cudaErrorUnknown:
      return Failure::Kind::kDeviceLost;
    default:
      return Failure::Kind::kOther;
  }
}

// What is current where something is freed gets a context, so it is to be its device. Where that cannot be, it is lost,
// or the process ends: so is what was to be freed.
template <typename Free>
void free_on(int device, const Free& free) noexcept {
  try {
    CurrentDevice current(device);
    ignore_failure(free());
  } catch (const std::exception&) {
  }
}

}  // namespace

void ignore_failure(int error) noexcept {
  if (error != cudaSuccess) cudaGetLastError();
}

void check(int error, const char* what) {
  auto status = static_cast<cudaError_t>(error);
  if (status == cudaSuccess) return;
  cudaGetLastError();
  Failure::Kind kind = kind_of(error);
  throw Failure(kind, std::string(what) + ": " + cudaGetErrorName(status) + ", " + cudaGetErrorString(status));
}

CurrentDevice::CurrentDevice(int device) {
  check(cudaGetDevice(&previous_), "cudaGetDevice");
  if (device != previous_) check(cudaSetDevice(device), "cudaSetDevice");
  changed_ = device != previous_;
}

CurrentDevice::~CurrentDevice() {
  if (changed_ && has_context(previous_)) ignore_failure(cudaSetDevice(previous_));
}

DeviceBytes::DeviceBytes(size_t bytes) : size_(bytes) {
  if (bytes == 0) return;
  check(cudaGetDevice(&device_), "cudaGetDevice");
  check(cudaMalloc(&data_, bytes), "cudaMalloc");
}

DeviceBytes::~DeviceBytes() {
  if (data_ != nullptr) free_on(device_, [this] { return cudaFree(data_); });
}

DeviceBytes::DeviceBytes(DeviceBytes&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)), device_(other.device_) {}

DeviceBytes& DeviceBytes::operator=(DeviceBytes&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(size_, other.size_);
  std::swap(device_, other.device_);
  return *this;
}

PinnedBytes::PinnedBytes(size_t bytes) : size_(bytes) {
  if (bytes == 0) return;
  check(cudaGetDevice(&device_), "cudaGetDevice");
  check(cudaMallocHost(&data_, bytes), "cudaMallocHost");
}

PinnedBytes::~PinnedBytes() {
  if (data_ != nullptr) free_on(device_, [this] { return cudaFreeHost(data_); });
}

PinnedBytes::PinnedBytes(PinnedBytes&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)), device_(other.device_) {}

PinnedBytes& PinnedBytes::operator=(PinnedBytes&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(size_, other.size_);
  std::swap(device_, other.device_);
  return *this;
}

}  // namespace rvq::cuda
