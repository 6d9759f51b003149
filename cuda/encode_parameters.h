// What a launch of the encode kernel works on.

#pragma once

#include <cstddef>

namespace rvq::cuda {

struct StageView;

// Rows pass `stages` stages one after the other. All pointers are to device memory.
struct EncodeParameters {
  const float* rows;     // [count][dim] from which the first of the stages subtracts
  const float* queries;  // [count][dim] by which it searches: `rows`, or their unit vectors
  float* residuals;      // [count][dim] out; may be `rows`
  size_t count;
  int dim;
  int stages;
  const StageView* views;       // of the first of the stages
  const float* weights;         // [dim] or null
  const unsigned char* packed;  // the first tile of the first of them
  int units;                    // pieces of packed codewords that all of the stages have
  void* codes;                  // that of row 0 at the first of the stages
  int code_stride;              // from row to row
  bool wide;                    // uint32_t, not uint16_t
  bool keep_residuals;          // after the last of the stages
  unsigned long long* bad;      // as in search.h, or null where the rows have been checked
  void* fragments;              // [blocks][…]: room for the operands of rows that do not fit in registers
};

}  // namespace rvq::cuda
