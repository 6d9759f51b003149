// The draws of k-means++: rows that lie apart, each in proportion to its distance from those before.

#pragma once

#include <cstddef>
#include <cstdint>

struct CUstream_st;

namespace rvq::cuda {

struct SeedingRequest {
  const float* vectors;  // device [count][dim]
  size_t count;          // 1 … 2^31 − 1
  size_t dim;
  const float* weights;     // device [dim] or null
  double* distances;        // in and out, device [count]
  bool fresh;               // the distances are all infinite, whatever is in their memory
  const double* fractions;  // device [draws], each in [0, 1)
  size_t draws;
  // In and out, device [draws + 1]: the first is the row before the draws; then the rows drawn, kNoRow from where on
  // all distances are zero.
  uint32_t* rows;
  double* block_sums;    // device, room for seeding_blocks(count)
  double* running_sums;  // the same
};

size_t seeding_blocks(size_t count);

// For each draw: distances[n] = min(distances[n], d64(vector n, the row before)), then a row as by `draw` of
// lib/proportional-draw.ts. Enqueues the work on the stream.
void draw_apart(const SeedingRequest& request, CUstream_st* stream);

}  // namespace rvq::cuda
