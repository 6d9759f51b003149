// What benchmarks ask of the addon: the processor's peak.

#pragma once

#include <napi.h>

namespace rvq {

// fmaPeak({ threads, instructionSet }): float32 multiply-adds of so many threads together, in GFLOP/s (two for each),
// with everything in registers. Takes about 10 ms; the level without fused ones multiplies and adds.
Napi::Value fma_peak(const Napi::CallbackInfo& info);

}  // namespace rvq
