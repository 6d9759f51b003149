// Brings rows to unit length: the same bits as on every backend.
//
// Shapes: rows and units [count][dim]. Eight neighbouring threads have a row, each one of the eight partial sums of
// docs/exactness.md, a block 32 rows at a time. No shared memory. Bound by reading rows and writing units, and on
// GeForce by float64, five operations and a division an element.

#include "unit_rows.h"

#include <algorithm>

#include "canonical.cuh"
#include "launch.cuh"

namespace rvq::cuda {

namespace {

constexpr unsigned kThreads = 256;
constexpr size_t kMostBlocks = 1 << 16;

// A row of zeros has no direction: its unit row is marked by the infinity that gets code 0.
// launch on 100: stack 16, spills 28
__global__ void __launch_bounds__(kThreads)
    bring_to_units(const float* rows, float* units, size_t count, int dim, unsigned long long* bad) {
  int lane = static_cast<int>(threadIdx.x) % kSumLanes;
  unsigned mask = 0xffu << (threadIdx.x % 32 / kSumLanes * kSumLanes);
  size_t rows_at_once = static_cast<size_t>(gridDim.x) * blockDim.x / kSumLanes;
  for (size_t row = (static_cast<size_t>(blockIdx.x) * blockDim.x + threadIdx.x) / kSumLanes; row < count;
       row += rows_at_once) {
    const float* x = rows + row * dim;
    double squared_norm = canonical_squared_norm(x, dim, lane, mask);
    bool zero = squared_norm == 0;
    for (int i = lane; i < dim; i += kSumLanes) {
      units[row * dim + i] = zero ? INFINITY : unit_element(x[i], squared_norm);
      if (bad != nullptr && magnitude(x[i]) >= kInfinityBits) atomicMin(bad, 2ull * (row * dim + i));
    }
    if (bad != nullptr && zero && lane == 0) atomicMin(bad, 2ull * (row * dim) + 1);
  }
}

}  // namespace

void make_unit_rows(const float* rows, size_t count, size_t dim, float* units, unsigned long long* bad,
                    CUstream_st* stream) {
  if (count == 0) return;
  size_t blocks = std::min((count * kSumLanes + kThreads - 1) / kThreads, kMostBlocks);
  Launch shape{dim3(static_cast<unsigned>(blocks)), dim3(kThreads), 0, stream};
  launch("unit rows", shape, bring_to_units, rows, units, count, static_cast<int>(dim), bad);
}

}  // namespace rvq::cuda
