// What tests want to know of the emulated runtime, and have go wrong in it: devices that have a context, memory in use, and
// calls that fail.

#include <map>
#include <mutex>
#include <set>
#include <string>
#include <vector>

#include "faults.h"

namespace {

struct Fault {
  std::string call;
  cudaError_t error;
  int device;
  size_t times;
};

struct Faults {
  std::mutex mutex;
  std::set<int> contexts;
  std::vector<Fault> wanted;
};

Faults& faults() {
  static Faults* faults = new Faults;
  return *faults;
}

thread_local cudaError_t last_error = cudaSuccess;

// Of calls from the driver, which the runtime hands out by name.
int primary_context_state(int device, unsigned* flags, int* active) {
  std::lock_guard<std::mutex> lock(faults().mutex);
  *flags = 0;
  *active = faults().contexts.count(device) > 0 ? 1 : 0;
  return cudaSuccess;
}

}  // namespace

cudaError_t emulation::begin_call(const char* call, int device) {
  std::lock_guard<std::mutex> lock(faults().mutex);
  for (Fault& fault : faults().wanted) {
    if (fault.times == 0 || fault.call != call || (fault.device >= 0 && fault.device != device)) continue;
    fault.times--;
    return last_error = fault.error;
  }
  faults().contexts.insert(device);
  return cudaSuccess;
}

cudaError_t emulation::failed(cudaError_t error) { return last_error = error; }

void emulation::fail_calls(const char* call, int error, int device, size_t times) {
  std::lock_guard<std::mutex> lock(faults().mutex);
  faults().wanted.push_back({call, static_cast<cudaError_t>(error), device, times});
}

std::vector<int> emulation::devices_with_context() {
  std::lock_guard<std::mutex> lock(faults().mutex);
  return {faults().contexts.begin(), faults().contexts.end()};
}

cudaError_t cudaGetLastError() {
  cudaError_t error = last_error;
  last_error = cudaSuccess;
  return error;
}

const char* cudaGetErrorName(cudaError_t error) {
  return error == cudaErrorMemoryAllocation ? "cudaErrorMemoryAllocation" : "an error";
}

const char* cudaGetErrorString(cudaError_t error) {
  return error == cudaErrorMemoryAllocation ? "out of memory" : "of the emulation";
}

cudaError_t cudaGetDriverEntryPointByVersion(const char* name, void** entry, unsigned, unsigned long long,
                                             cudaDriverEntryPointQueryResult*) {
  *entry = std::string(name) == "cuDevicePrimaryCtxGetState" ? reinterpret_cast<void*>(primary_context_state) : nullptr;
  return *entry == nullptr ? emulation::failed(cudaErrorInvalidValue) : cudaSuccess;
}
