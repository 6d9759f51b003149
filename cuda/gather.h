// Copies of single rows.

#pragma once

#include <cstddef>
#include <cstdint>

struct CUstream_st;

namespace rvq::cuda {

// gathered[i] = vectors[rows[i]] for i below `count`, which is below 2^31: device [count][dim], [...][dim], [count].
// Enqueues the work on the stream.
void gather_rows(const float* vectors, const uint32_t* rows, size_t count, size_t dim, float* gathered,
                 CUstream_st* stream);

}  // namespace rvq::cuda
