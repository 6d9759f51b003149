// The draws of k-means++: rows that lie apart, each in proportion to its distance from those before.
//
// Shapes: distances [count], block_sums and running_sums [blocks of 1,024 rows], rows [draws + 1]. The answer is that
// of lib/proportional-draw.ts to the bit: sums run in index order, one addition after the other, done by one thread of
// a block on numbers in shared memory (16 KiB); where a sum passes the target is then looked for by all. A draw is
// three launches: lowered distances (distances.cu), `sum_blocks` (a block has 1,024 rows) and `draw_row` (one block).
// Bound by the latency of those additions, by arithmetic 5 to 10 µs for a thousand where float64 is fast, with reading
// the vectors beside them.

#include "seeding.h"

#include <cuda_runtime.h>

#include "distances.h"
#include "launch.cuh"

namespace rvq::cuda {

namespace {

constexpr unsigned kThreads = 256;
// blockSize of lib/proportional-draw.ts.
constexpr size_t kBlockRows = 1024;

// Some numbers, brought to shared memory, and their sums in order.
struct RunningSums {
  double numbers[kBlockRows];
  double sums[kBlockRows];  // before + numbers[0] + … + numbers[i]

  // Of values[some], 1 … kBlockRows of them, by all threads of a block.
  __device__ void add_up(const double* values, unsigned some, double before) {
    for (unsigned i = threadIdx.x; i < some; i += kThreads) numbers[i] = values[i];
    __syncthreads();
    if (threadIdx.x == 0) {
      double sum = before;
      unsigned i = 0;
      // Some numbers are under way while those before are added.
      constexpr unsigned kAhead = 8;
#pragma unroll 1
      for (; i + kAhead <= some; i += kAhead) {
        double ahead[kAhead];
#pragma unroll
        for (unsigned j = 0; j < kAhead; j++) ahead[j] = numbers[i + j];
#pragma unroll
        for (unsigned j = 0; j < kAhead; j++) sums[i + j] = sum = __dadd_rn(sum, ahead[j]);
      }
#pragma unroll 1
      for (; i < some; i++) sums[i] = sum = __dadd_rn(sum, numbers[i]);
    }
    __syncthreads();
  }
};

// Looks for the number at which a sum passes a target.
struct Passing {
  unsigned first;
  unsigned last;

  // Of numbers[some] with their sums in order: the first, not zero, whose sum is above the target; where there is none
  // the last that is not zero. By all threads of a block.
  __device__ unsigned find(const double* numbers, const double* sums, unsigned some, double target) {
    if (threadIdx.x == 0) {
      first = some;
      last = 0;
    }
    __syncthreads();
    for (unsigned i = threadIdx.x; i < some; i += kThreads) {
      if (numbers[i] == 0) continue;
      if (sums[i] > target) atomicMin(&first, i);
      atomicMax(&last, i);
    }
    __syncthreads();
    unsigned found = first < some ? first : last;
    __syncthreads();
    return found;
  }
};

__device__ unsigned rows_of(const SeedingRequest& job, size_t block) {
  size_t left = job.count - block * kBlockRows;
  return static_cast<unsigned>(left < kBlockRows ? left : kBlockRows);
}

__global__ void __launch_bounds__(kThreads) sum_blocks(const __grid_constant__ SeedingRequest job) {
  __shared__ RunningSums running;
  unsigned rows = rows_of(job, blockIdx.x);
  running.add_up(job.distances + blockIdx.x * kBlockRows, rows, 0);
  if (threadIdx.x == 0) job.block_sums[blockIdx.x] = running.sums[rows - 1];
}

// totalOf, blockAt and indexInBlock, which leave out zeros: these change no sum.
__global__ void __launch_bounds__(kThreads)
    draw_row(const __grid_constant__ SeedingRequest job, unsigned blocks, size_t draw) {
  __shared__ RunningSums running;
  __shared__ Passing passing;
  double total = 0;
  for (unsigned first = 0; first < blocks; first += kBlockRows) {
    unsigned some = blocks - first < kBlockRows ? blocks - first : kBlockRows;
    running.add_up(job.block_sums + first, some, total);
    for (unsigned i = threadIdx.x; i < some; i += kThreads) job.running_sums[first + i] = running.sums[i];
    total = running.sums[some - 1];
    __syncthreads();
  }
  if (total == 0) {
    if (threadIdx.x == 0) job.rows[draw + 1] = kNoRow;
    return;
  }
  // Below the total, which is no subnormal number: there is a block that passes it, though perhaps no row of that.
  double target = __dmul_rn(job.fractions[draw], total);
  unsigned block = passing.find(job.block_sums, job.running_sums, blocks, target);
  double before = block == 0 ? 0 : job.running_sums[block - 1];
  unsigned rows = rows_of(job, block);
  running.add_up(job.distances + block * kBlockRows, rows, before);
  unsigned row = passing.find(running.numbers, running.sums, rows, target);
  if (threadIdx.x == 0) job.rows[draw + 1] = static_cast<uint32_t>(block * kBlockRows + row);
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
    launch("seeding", {dim3(1), dim3(kThreads), 0, stream}, draw_row, request, static_cast<unsigned>(blocks), draw);
  }
}

}  // namespace rvq::cuda
