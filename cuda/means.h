// The end of an iteration of k-means: how many rows moved, and codewords that become the means of their rows.

#pragma once

#include <cstddef>
#include <cstdint>

#include "search.h"

namespace rvq::cuda {

struct MovedRequest {
  size_t count;  // below 2^31
  // Device, the first of every code_stride: the codes of now and of before, of the same width.
  DeviceCodes codes;
  DeviceCodes previous;
  size_t code_stride;
  unsigned* moved;  // out, device [1]: rows whose code is another
};
void count_moved(const MovedRequest& request, CUstream_st* stream);

// meanSteps of lib/statistics.ts, in place.
struct MeansRequest {
  size_t num_codewords;
  size_t dim;
  size_t rows;                    // Σ counts
  const long long* counts;        // device [num_codewords]
  const long long* sums;          // device [num_codewords][dim]
  const int32_t* grid_exponents;  // device [dim]
  double shrinkage;
  bool cosine;         // codewords that would be zero stay as they are
  float* codewords;    // in and out, device [num_codewords][dim]; those without rows stay
  double* counts_out;  // out, device [num_codewords]: the counts
  long long* columns;  // device, room for [dim]
};
void become_means(const MeansRequest& request, CUstream_st* stream);

}  // namespace rvq::cuda
