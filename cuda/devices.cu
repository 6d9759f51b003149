// Lists the CUDA devices of this machine. The runtime is linked statically and looks for the driver itself, so that
// this runs, and says so, on machines that have none.

#include <cuda_runtime.h>

#include "devices.h"

namespace rvq::cuda {

namespace {

// 13020 is 13.2.
std::string version_text(int version) {
  return std::to_string(version / 1000) + "." + std::to_string(version % 1000 / 10);
}

std::string reason_for(cudaError_t error, int driver, int runtime) {
  if (driver == 0) return "no NVIDIA driver found";
  if (error == cudaErrorInsufficientDriver) {
    std::string least = runtime >= 13000 ? "580" : runtime >= 12000 ? "525" : "450";
    return "the NVIDIA driver is too old: CUDA " + version_text(runtime) + " needs driver " + least +
           " or newer, this one supports CUDA " + version_text(driver);
  }
  if (error == cudaErrorNoDevice || error == cudaSuccess) return "no CUDA device found";
  return std::string(cudaGetErrorName(error)) + ": " + cudaGetErrorString(error);
}

// 0 where the driver does not say.
int attribute(cudaDeviceAttr name, int device) {
  int value = 0;
  return cudaDeviceGetAttribute(&value, name, device) == cudaSuccess ? value : 0;
}

}  // namespace

DeviceList list_devices() {
  DeviceList list;
  int driver = 0;
  int runtime = 0;
  cudaDriverGetVersion(&driver);
  cudaRuntimeGetVersion(&runtime);
  list.runtime_version = version_text(runtime);
  if (driver != 0) list.driver_version = version_text(driver);

  int count = 0;
  cudaError_t error = cudaGetDeviceCount(&count);
  for (int i = 0; error == cudaSuccess && i < count; i++) {
    cudaDeviceProp properties;
    error = cudaGetDeviceProperties(&properties, i);
    if (error != cudaSuccess) break;
    std::string capability = std::to_string(properties.major) + "." + std::to_string(properties.minor);
    list.devices.push_back({properties.name, capability, properties.totalGlobalMem, properties.multiProcessorCount,
                            attribute(cudaDevAttrClockRate, i), attribute(cudaDevAttrMemoryClockRate, i),
                            attribute(cudaDevAttrGlobalMemoryBusWidth, i)});
  }
  if (list.devices.empty()) list.reason = reason_for(error, driver, runtime);
  // An error of this call must not be reported by the next one.
  cudaGetLastError();
  return list;
}

}  // namespace rvq::cuda
