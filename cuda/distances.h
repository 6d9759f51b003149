// Canonical distances of vectors that are on the device: to their reconstructions, and to one centre.

#pragma once

#include <cstddef>
#include <cstdint>

#include "codebooks.h"
#include "search.h"

namespace rvq::cuda {

struct DistancesRequest {
  const float* vectors;  // device [count][dim]
  size_t count;          // below 2^31
  DeviceCodes codes;     // device [count][code_stages]
  size_t code_stages;
  size_t stages;  // at most code_stages
  bool weighted;
  double* distances;  // out, device [count][stages]
  // Scratch memory, device, of distances_workspace_bytes.
  void* workspace;
  // Out, device: set to 1 where a code has no codeword; nothing is read for it, and `distances` is then unspecified.
  unsigned* out_of_range;
};

size_t distances_workspace_bytes(const Codebooks& codebooks, size_t count, size_t stages);

// distances[n][s] = d64(vector n, its reconstruction from s + 1 stages). Enqueues the work on the stream.
void distances(const Codebooks& codebooks, const DistancesRequest& request, CUstream_st* stream);

struct LowerDistancesRequest {
  const float* vectors;  // device [count][dim]
  size_t count;          // below 2^31
  size_t dim;
  const float* weights;  // device [dim] or null
  const float* centre;   // device [dim]; null: the row of `centre_row`
  // Device [1]: which of the vectors the centre is; kNoRow: nothing is lowered.
  const uint32_t* centre_row;
  double* distances;  // in and out, device [count]
  bool fresh;         // the distances are all infinite, whatever is in their memory
};

constexpr uint32_t kNoRow = UINT32_MAX;

// distances[n] = min(distances[n], d64(vector n, centre)). Enqueues the work on the stream.
//
// Most vectors are clearly farther from the centre, and a float32 sum shows it where float64 is slow. Its terms are not
// negative, so it is the true distance times 1 + t with |t| ≤ γ, (dim + 4) roundings of 2^-24 each in whatever order,
// but for 2^-148 an element where something underflows. If it still exceeds distances[n] after both are taken off, d64,
// which is within (⌈dim/8⌉ + 6)·2^-53 of the true distance, is not smaller either; γ counts dim + 16 roundings.
void lower_distances(const LowerDistancesRequest& request, CUstream_st* stream);

}  // namespace rvq::cuda
