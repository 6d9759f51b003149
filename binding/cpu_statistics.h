// The JavaScript functions that need no codebook: accumulate and lowerDistances.

#pragma once

#include <napi.h>

namespace rvq {

// (request, { threads, instructionSet }): requests as in lib/backend.ts; a promise each.
Napi::Value accumulate(const Napi::CallbackInfo& info);
Napi::Value lower_distances(const Napi::CallbackInfo& info);

}  // namespace rvq
