// Counts and sums of the vectors of every codeword, as integers on a grid for each dimension, on the device.

#pragma once

#include <cstddef>
#include <cstdint>

#include "search.h"

namespace rvq::cuda {

struct AccumulateRequest {
  const float* vectors;  // device [count][dim], finite
  size_t count;          // below 2^30
  size_t dim;
  DeviceCodes codes;  // device [count], the first of every code_stride
  // The same of the codes under which the rows are, where they are in the statistics already; else null.
  const DeviceCodes* previous;
  size_t code_stride;
  size_t num_codewords;
  bool leaves_out;                // rows of the code num_codewords are left out, and it is none without a codeword
  const int32_t* grid_exponents;  // device [dim]
  // Out, device: set to 1 where a code has no codeword; the row is then left out.
  unsigned* out_of_range;
};

// Scratch memory of the operations below.
size_t accumulate_workspace_bytes(size_t count, bool moving, size_t num_codewords);

// counts[k] += the rows with code k; sums[k][i] += Σ roundHalfEven(x_i / 2^grid_exponents[i]) over them; with
// `previous` the rows whose code is another are taken away there. In and out, device: counts[num_codewords],
// sums[num_codewords][dim]. Several streams may add to the same ones at a time. Enqueues the work on the stream.
void accumulate(const AccumulateRequest& request, long long* counts, long long* sums, void* workspace,
                CUstream_st* stream);

// The statistics of these rows alone, for those codewords that have any.
struct FewStatistics {
  uint32_t* used;      // out, device [1]: how many these are
  uint32_t* codes;     // out, device [at most count, 2 · count with `previous`]: which, in no particular order
  int32_t* counts;     // out, device, as many: rows that came less rows that went
  long long* sums;     // out, device [as many][dim]
  size_t sums_length;  // elements of `sums`, which is cleared first
};

void accumulate_few(const AccumulateRequest& request, const FewStatistics& out, void* workspace, CUstream_st* stream);

// The most codewords that rows can have.
inline size_t most_used(size_t count, bool moving, size_t num_codewords) {
  size_t entries = moving ? 2 * count : count;
  return entries < num_codewords ? entries : num_codewords;
}

}  // namespace rvq::cuda
