// The end of a stage in a step of learning: which rows count, how far they are, and codewords that move on.

#pragma once

#include <cstddef>
#include <cstdint>

#include "search.h"

namespace rvq::cuda {

// Rows count in a stage unless they stop before it, or are met already.
struct CountedRows {
  size_t count;  // below 2^31
  size_t stage;
  const uint16_t* stages_of_row;   // device [count]: a row counts in so many stages; or null: in all
  const double* distances_before;  // device [count], after the stage before: zero where a row is met; or null: none is

  bool all() const { return stages_of_row == nullptr && distances_before == nullptr; }
};

// counted[n] = the row's code, num_codewords where it does not count. All on the device; enqueues the work.
void choose_counted(const CountedRows& rows, const DeviceCodes& codes, size_t code_stages, size_t num_codewords,
                    uint32_t* counted, CUstream_st* stream);

// Sums over the rows whose last stage is this one or a later one, in the order that lib/stage-errors.ts defines.
struct StageErrors {
  double mass;      // how many these are
  double weighted;  // Σ distances
  double plain;     // Σ plain distances
  double last;      // the part of them of rows whose last stage this is
};

struct ErrorsRequest {
  size_t count;  // below 2^31
  size_t stage;
  size_t num_stages;
  const uint16_t* stages_of_row;  // device [count] or null: all rows have num_stages
  const double* distances;        // device [count]
  const double* plain_distances;  // device [count]
  StageErrors* partial;           // device, room for error_blocks(count)
  StageErrors* errors;            // out, device [1]
};
size_t error_blocks(size_t count);
void sum_errors(const ErrorsRequest& request, CUstream_st* stream);

// averageSteps of lib/moving-average.ts, in place.
struct AverageRequest {
  size_t num_codewords;
  size_t dim;
  const long long* counts;        // device [num_codewords]
  const long long* sums;          // device [num_codewords][dim]
  const int32_t* grid_exponents;  // device [dim]
  double decay;
  double epsilon;
  bool encodec;   // else the simple form
  bool cosine;    // codewords that would be zero stay as they are
  bool unused;    // the codewords are from elsewhere: as if they had been used equally
  double* usage;  // in and out, device [num_codewords], as the others
  double* averages;
  float* codewords;
  double* masses;     // out, device [num_codewords]: the counts
  double* usage_out;  // out, device [num_codewords]: the usage once more
  double* totals;     // device, room for two
};
void move_averages(const AverageRequest& request, CUstream_st* stream);

}  // namespace rvq::cuda
