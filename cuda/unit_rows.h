// Rows brought to unit length, as the cosine metric has them.

#pragma once

#include <cstddef>

struct CUstream_st;

namespace rvq::cuda {

// units[count][dim] = rows[count][dim], each brought to unit length (docs/exactness.md), all on the device; a row of
// zeros becomes one of infinities. With `bad` not null, rows that are zero or not finite are reported there, as in
// search.h.
void make_unit_rows(const float* rows, size_t count, size_t dim, float* units, unsigned long long* bad,
                    CUstream_st* stream);

}  // namespace rvq::cuda
