// What tests want to know of the emulated runtime, and have go wrong in it.

#pragma once

#include <cuda_runtime.h>

#include <cstddef>
#include <vector>

namespace emulation {

// For the runtime: a call that is about a device begins, and gives it a context unless it is to fail.
cudaError_t begin_call(const char* call, int device);
// For the runtime: the thread's last error from now on.
cudaError_t failed(cudaError_t error);

// The next `times` calls of this name fail; of all devices where `device` is negative. Kernels are started by
// "cudaLaunchKernelExC".
void fail_calls(const char* call, int error, int device, size_t times);

// In order of their numbers.
std::vector<int> devices_with_context();

// Of this thread.
int current_device();

struct MemoryUse {
  size_t device_bytes;
  size_t pinned_bytes;
};
MemoryUse memory_use();

}  // namespace emulation
