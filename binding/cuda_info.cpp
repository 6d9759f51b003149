// The JavaScript function cudaInfo.

#include "cuda_info.h"

#include <string>

#include "../cuda/devices.h"

namespace rvq {

namespace {

cuda::DeviceList list_devices() {
#ifdef RVQ_CUDA
  return cuda::list_devices();
#else
  return {{}, "", "", "this build of the addon has no CUDA core (it was compiled without nvcc)"};
#endif
}

Napi::Value text_or_null(Napi::Env env, const std::string& text) {
  return text.empty() ? env.Null() : Napi::String::New(env, text).As<Napi::Value>();
}

}  // namespace

Napi::Value cuda_info(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  cuda::DeviceList list = list_devices();
  Napi::Array devices = Napi::Array::New(env, list.devices.size());
  for (uint32_t i = 0; i < list.devices.size(); i++) {
    const cuda::Device& device = list.devices[i];
    Napi::Object entry = Napi::Object::New(env);
    entry.Set("name", device.name);
    entry.Set("computeCapability", device.compute_capability);
    entry.Set("memoryBytes", static_cast<double>(device.memory_bytes));
    entry.Set("multiprocessors", device.multiprocessors);
    entry.Set("clockMhz", device.clock_khz / 1e3);
    // Two transfers a clock of the whole bus.
    entry.Set("memoryGbps", 2.0 * device.memory_clock_khz * device.memory_bus_bits / 8 / 1e6);
    devices.Set(i, entry);
  }
  Napi::Object result = Napi::Object::New(env);
  result.Set("devices", devices);
  result.Set("driverVersion", text_or_null(env, list.driver_version));
  result.Set("runtimeVersion", text_or_null(env, list.runtime_version));
  result.Set("reason", text_or_null(env, list.reason));
  return result;
}

}  // namespace rvq
