// Residual encoding of rows that are on the device.

#pragma once

#include <cstddef>
#include <cstdint>

#include "codebooks.h"
#include "device_memory.h"

struct CUstream_st;

namespace rvq::cuda {

// A code array: uint16_t or uint32_t elements.
struct DeviceCodes {
  void* data;
  bool wide;

  size_t bytes_each() const { return wide ? sizeof(uint32_t) : sizeof(uint16_t); }
  // The array from an element on.
  DeviceCodes from(size_t element) const { return {static_cast<char*>(data) + element * bytes_each(), wide}; }
};

struct EncodeRequest {
  const float* vectors;  // device [count][dim], any alignment of 4
  size_t count;          // below 2^31
  size_t stages;
  DeviceCodes codes;  // out, device [count][stages]
  // Out, device [count][dim]: the residuals after the last stage; may be `vectors`. Used between the stages: null only
  // with one stage whose residuals are not wanted.
  float* residuals;
  bool keep_residuals = true;  // Whether those after the last stage are wanted.
  // In and out, device: lowered to 2 · (index of the first element that is not finite) or, with the cosine metric, to
  // 2 · (row · dim) + 1 for the first zero row. kNothingBad at first. Where it is lowered the other outputs are
  // unspecified.
  unsigned long long* bad;
};

constexpr unsigned long long kNothingBad = UINT64_MAX;

// Scratch memory that `encode` needs for so many rows, or fewer.
size_t encode_workspace_bytes(const Codebooks& codebooks, size_t count);

// Enqueues the work on the stream; `workspace` is device memory, aligned to 256, of that many bytes.
void encode(const Codebooks& codebooks, const EncodeRequest& request, void* workspace, CUstream_st* stream);

}  // namespace rvq::cuda
