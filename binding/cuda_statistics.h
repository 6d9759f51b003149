// The JavaScript functions of the CUDA core that need no codebook: cudaAccumulate and cudaLowerDistances.

#pragma once

#include <napi.h>

namespace rvq {

// (request, { device, threads }): requests as in lib/backend.ts; a promise each.
Napi::Value cuda_accumulate(const Napi::CallbackInfo& info);
Napi::Value cuda_lower_distances(const Napi::CallbackInfo& info);

}  // namespace rvq
