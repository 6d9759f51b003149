// The draws of k-means++: rows that lie apart, each in proportion to its distance from those before.
//
// Shapes: distances [count], block_sums [blocks of 1,024 rows], rows [draws + 1]. The answer is that of
// lib/proportional-draw.ts to the bit: sums run in index order, one addition after the other. A draw is three launches:
// lowered distances (distances.cu), `sum_blocks` (a block has 1,024 rows, brought to shared memory, which one thread
// adds up) and `draw_row` (one block, in which one thread looks for the row). Bound by the latency of those additions,
// by arithmetic some 10 µs each where float64 is fast, with reading the vectors beside them.

#include "seeding.h"

#include <cuda_runtime.h>

#include "distances.h"
#include "launch.cuh"

namespace rvq::cuda {

namespace {

constexpr unsigned kThreads = 256;
// blockSize of lib/proportional-draw.ts.
constexpr size_t kBlockRows = 1024;

// One thread looks at numbers in order, which all of a block bring to shared memory.
struct Walk {
  double numbers[kBlockRows];
  bool enough;

  // look(i, values[i]) for i from 0 until it says false.
  template <typename Look>
  __device__ void over(const double* values, size_t count, const Look& look) {
    if (threadIdx.x == 0) enough = false;
    for (size_t first = 0; first < count; first += kBlockRows) {
      __syncthreads();
      if (enough) break;
      size_t some = count - first < kBlockRows ? count - first : kBlockRows;
      for (size_t i = threadIdx.x; i < some; i += kThreads) numbers[i] = values[first + i];
      __syncthreads();
      if (threadIdx.x == 0 && !looks_on(first, some, look)) enough = true;
    }
    __syncthreads();
  }

 private:
  // Some numbers are under way from shared memory while those before are looked at.
  template <typename Look>
  __device__ bool looks_on(size_t first, size_t some, const Look& look) const {
    constexpr size_t kAhead = 8;
    for (size_t i = 0; i < some; i += kAhead) {
      double ahead[kAhead];
#pragma unroll
      for (size_t j = 0; j < kAhead; j++) ahead[j] = numbers[i + j < some ? i + j : some - 1];
#pragma unroll
      for (size_t j = 0; j < kAhead; j++) {
        if (i + j < some && !look(first + i + j, ahead[j])) return false;
      }
    }
    return true;
  }
};

__global__ void __launch_bounds__(kThreads) sum_blocks(const __grid_constant__ SeedingRequest job) {
  __shared__ Walk walk;
  size_t first = static_cast<size_t>(blockIdx.x) * kBlockRows;
  size_t rows = job.count - first < kBlockRows ? job.count - first : kBlockRows;
  double sum = 0;
  walk.over(job.distances + first, rows, [&](size_t, double distance) {
    sum = __dadd_rn(sum, distance);
    return true;
  });
  if (threadIdx.x == 0) job.block_sums[blockIdx.x] = sum;
}

// totalOf, blockAt and indexInBlock.
__global__ void __launch_bounds__(kThreads)
    draw_row(const __grid_constant__ SeedingRequest job, size_t blocks, size_t draw) {
  __shared__ Walk walk;
  __shared__ double shared_total;
  __shared__ size_t shared_block;
  double total = 0;
  walk.over(job.block_sums, blocks, [&](size_t, double sum) {
    total = __dadd_rn(total, sum);
    return true;
  });
  if (threadIdx.x == 0) shared_total = total;
  __syncthreads();
  if (shared_total == 0) {
    if (threadIdx.x == 0) job.rows[draw + 1] = kNoRow;
    return;
  }
  double target = __dmul_rn(job.fractions[draw], shared_total);

  double before = 0;
  size_t block = 0;
  walk.over(job.block_sums, blocks, [&](size_t b, double sum) {
    if (sum == 0) return true;
    block = b;
    double after = __dadd_rn(before, sum);
    if (after > target) return false;
    before = after;
    return true;
  });
  if (threadIdx.x == 0) shared_block = block;
  __syncthreads();
  size_t first = shared_block * kBlockRows;
  size_t rows = job.count - first < kBlockRows ? job.count - first : kBlockRows;
  size_t last = 0;
  walk.over(job.distances + first, rows, [&](size_t i, double distance) {
    if (distance == 0) return true;
    last = i;
    before = __dadd_rn(before, distance);
    return before <= target;
  });
  if (threadIdx.x == 0) job.rows[draw + 1] = static_cast<uint32_t>(first + last);
}

}  // namespace

size_t seeding_blocks(size_t count) { return (count + kBlockRows - 1) / kBlockRows; }

void draw_apart(const SeedingRequest& request, CUstream_st* stream) {
  size_t blocks = seeding_blocks(request.count);
  LowerDistancesRequest lower{};
  lower.vectors = request.vectors;
  lower.count = request.count;
  lower.dim = request.dim;
  lower.weights = request.weights;
  lower.distances = request.distances;
  lower.fresh = request.fresh;
  for (size_t draw = 0; draw < request.draws; draw++) {
    lower.centre_row = request.rows + draw;
    lower_distances(lower, stream);
    lower.fresh = false;
    launch("seeding", {blocks_for(request.count, kBlockRows), dim3(kThreads), 0, stream}, sum_blocks, request);
    launch("seeding", {dim3(1), dim3(kThreads), 0, stream}, draw_row, request, blocks, draw);
  }
}

}  // namespace rvq::cuda
