// Decoding of codes that are on the device.

#pragma once

#include <cstddef>

#include "codebooks.h"
#include "search.h"

namespace rvq::cuda {

struct DecodeRequest {
  DeviceCodes codes;  // device [count][code_stages]
  size_t count;       // below 2^31
  size_t code_stages;
  size_t stages;   // at most code_stages
  float* vectors;  // out, device [count][dim]
  // Out, device: set to 1 where a code has no codeword; nothing is read for it, and `vectors` is then unspecified.
  unsigned* out_of_range;
};

// Enqueues the work on the stream.
void decode(const Codebooks& codebooks, const DecodeRequest& request, CUstream_st* stream);

}  // namespace rvq::cuda
