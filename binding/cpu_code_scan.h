// The JavaScript function that searches coded vectors.

#pragma once

#include <napi.h>

namespace rvq {

// (request, { threads, instructionSet }): lib/cpu/addon.ts describes the request; a promise.
Napi::Value scan_codes(const Napi::CallbackInfo& info);

}  // namespace rvq
