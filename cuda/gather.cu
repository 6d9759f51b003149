// Copies of single rows.
//
// Shapes: vectors [...][dim], rows [count], gathered [count][dim]. No shared memory. A warp has a row, or as many
// neighbouring threads as a short row has elements; a block as many rows as it has such groups. Bound by the memory:
// each row is read and written once.

#include "gather.h"

#include "launch.cuh"

namespace rvq::cuda {

namespace {

constexpr unsigned kThreads = 256;
constexpr unsigned kMostAlong = 32;

__global__ void __launch_bounds__(kThreads)
    copy_rows(const float* vectors, const uint32_t* rows, size_t count, int dim, float* gathered) {
  size_t i = static_cast<size_t>(blockIdx.x) * blockDim.y + threadIdx.y;
  if (i >= count) return;
  const float* from = vectors + static_cast<size_t>(rows[i]) * dim;
  float* to = gathered + i * dim;
  for (int column = static_cast<int>(threadIdx.x); column < dim; column += static_cast<int>(blockDim.x)) {
    to[column] = from[column];
  }
}

}  // namespace

void gather_rows(const float* vectors, const uint32_t* rows, size_t count, size_t dim, float* gathered,
                 CUstream_st* stream) {
  if (count == 0) return;
  unsigned along = threads_along(dim) < kMostAlong ? threads_along(dim) : kMostAlong;
  dim3 block(along, kThreads / along);
  launch("gather", {blocks_for(count, block.y), block, 0, stream}, copy_rows, vectors, rows, count,
         static_cast<int>(dim), gathered);
}

}  // namespace rvq::cuda
