// Where the codewords of some stages are, as a kernel's argument, and codes that are checked before they are used.

#pragma once

#include <cuda_runtime.h>

#include <cstddef>
#include <cstdint>

#include "codebooks.h"
#include "search.h"

namespace rvq::cuda {

// Arguments of a kernel have 4 KiB; more stages take more launches.
constexpr int kTableStages = 64;

struct StageTable {
  const float* codewords[kTableStages];  // each [num_codewords][dim]
  uint32_t num_codewords[kTableStages];
  int count;
};

inline StageTable stage_table(const Codebooks& codebooks, size_t first, size_t count) {
  StageTable table{};
  table.count = static_cast<int>(count);
  for (size_t s = 0; s < count; s++) {
    table.codewords[s] = codebooks.codewords(first + s);
    table.num_codewords[s] = static_cast<uint32_t>(codebooks.num_codewords(first + s));
  }
  return table;
}

__device__ __forceinline__ uint32_t load_code(const DeviceCodes& codes, size_t i) {
  return codes.wide ? static_cast<const uint32_t*>(codes.data)[i] : static_cast<const uint16_t*>(codes.data)[i];
}

// The code, or where it has no codeword 0, which every codebook has, with the flag set.
__device__ __forceinline__ uint32_t checked_code(const DeviceCodes& codes, size_t i, uint32_t num_codewords,
                                                 unsigned* out_of_range) {
  uint32_t code = load_code(codes, i);
  if (code < num_codewords) return code;
  *out_of_range = 1;
  return 0;
}

}  // namespace rvq::cuda
