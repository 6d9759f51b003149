// What a step of learning needs to know of rows on the device besides their codes and sums.

#pragma once

#include <cstddef>
#include <cstdint>

#include "codebooks.h"
#include "search.h"

namespace rvq::cuda {

// largest[i] = max(largest[i], |vectors[n][i]|) over the rows; NaN raises nothing. `largest`: device [dim], ≥ +0.
// Enqueues the work on the stream.
void raise_to_magnitudes(const float* vectors, size_t count, size_t dim, float* largest, CUstream_st* stream);

struct PassOnRequest {
  const float* vectors;  // device [count][dim]: what the stage quantizes
  size_t count;          // below 2^31
  DeviceCodes codes;     // device [count][code_stages]
  size_t code_stages;
  size_t stage;
  double* distances;        // out, device [count]: d64 to the codeword, weighted where there are weights
  double* plain_distances;  // out, device [count], the same without weights, or null
  // Out, device [count][dim] or null: what the stage leaves over, fround(x − c) element by element; may be `vectors`.
  float* residuals;
  // Out, device: set to 1 where a code has no codeword; codeword 0 stands for it then.
  unsigned* out_of_range;
};

// Enqueues the work on the stream.
void pass_on(const Codebooks& codebooks, const PassOnRequest& request, CUstream_st* stream);

}  // namespace rvq::cuda
