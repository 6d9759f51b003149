// The JavaScript functions that turn codes into bits and back.

#pragma once

#include <napi.h>

namespace rvq {

// (request) as lib/cpu/addon.ts describes it; both are done when they return.
Napi::Value pack_codes(const Napi::CallbackInfo& info);
Napi::Value unpack_codes(const Napi::CallbackInfo& info);

}  // namespace rvq
