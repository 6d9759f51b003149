// The JavaScript function cudaInfo: what of CUDA this machine has, and why not more.

#pragma once

#include <napi.h>

namespace rvq {

// { devices: { name, computeCapability, memoryBytes }[], driverVersion, runtimeVersion: string | null, reason: string |
// null }; a reason where there are no devices.
Napi::Value cuda_info(const Napi::CallbackInfo& info);

}  // namespace rvq
