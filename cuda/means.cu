// The end of an iteration of k-means: how many rows moved, and codewords that become the means of their rows.
//
// Shapes: codes [count], sums [num_codewords][dim], columns [dim], codewords [num_codewords][dim]. The answer is that
// of lib/statistics.ts to the bit: every operation is rounded on its own; what is added up in no order are integers.
// `compare_codes`: a thread a row. `sum_columns`, only with shrinkage: threads along a row walk down kWalk codewords
// each and meet in memory once. `divide`: a warp a codeword, bound by reading and writing 12 bytes an element once. No
// shared memory.

#include "means.h"

#include <cuda_runtime.h>

#include "canonical.cuh"
#include "grid.cuh"
#include "launch.cuh"
#include "stage_table.cuh"
#include "write_codeword.cuh"

namespace rvq::cuda {

namespace {

constexpr unsigned kThreads = 256;
constexpr unsigned kWarps = kThreads / 32;
// One addition to memory for so many to a register.
constexpr size_t kWalk = 64;

__global__ void __launch_bounds__(kThreads) compare_codes(const __grid_constant__ MovedRequest job) {
  size_t row = static_cast<size_t>(blockIdx.x) * kThreads + threadIdx.x;
  size_t at = row * job.code_stride;
  bool moved = row < job.count && load_code(job.codes, at) != load_code(job.previous, at);
  unsigned all = __ballot_sync(kAll, moved);
  if (threadIdx.x % 32 == 0 && all != 0) atomicAdd(job.moved, static_cast<unsigned>(__popc(all)));
}

__global__ void __launch_bounds__(kThreads) sum_columns(const __grid_constant__ MeansRequest job) {
  size_t begin = static_cast<size_t>(blockIdx.x) * blockDim.y * kWalk;
  size_t end = begin + blockDim.y * kWalk < job.num_codewords ? begin + blockDim.y * kWalk : job.num_codewords;
  for (size_t i = threadIdx.x; i < job.dim; i += blockDim.x) {
    long long sum = 0;
    for (size_t k = begin + threadIdx.y; k < end; k += blockDim.y) sum += job.sums[k * job.dim + i];
    atomicAdd(reinterpret_cast<unsigned long long*>(&job.columns[i]), static_cast<unsigned long long>(sum));
  }
}

__global__ void __launch_bounds__(kThreads) divide(const __grid_constant__ MeansRequest job) {
  size_t k = static_cast<size_t>(blockIdx.x) * kWarps + threadIdx.x / 32;
  if (k >= job.num_codewords) return;
  double count = static_cast<double>(job.counts[k]);
  if (threadIdx.x % 32 == 0) job.counts_out[k] = count;
  if (count == 0) return;
  double weight = __dadd_rn(count, job.shrinkage);
  double rows = static_cast<double>(job.rows);
  const long long* sums = job.sums + k * job.dim;
  write_codeword(job.codewords + k * job.dim, job.dim, job.cosine, [=](size_t i) {
    int exponent = job.grid_exponents[i];
    double prior = 0;
    if (job.shrinkage != 0) {
      prior = __dmul_rn(job.shrinkage, __ddiv_rn(from_grid(job.columns[i], exponent), rows));
    }
    return __double2float_rn(__ddiv_rn(__dadd_rn(from_grid(sums[i], exponent), prior), weight));
  });
}

}  // namespace

void count_moved(const MovedRequest& request, CUstream_st* stream) {
  check(cudaMemsetAsync(request.moved, 0, sizeof *request.moved, stream), "moved rows");
  if (request.count == 0) return;
  launch("moved rows", {blocks_for(request.count, kThreads), dim3(kThreads), 0, stream}, compare_codes, request);
}

void become_means(const MeansRequest& request, CUstream_st* stream) {
  if (request.shrinkage != 0) {
    check(cudaMemsetAsync(request.columns, 0, request.dim * sizeof *request.columns, stream), "means");
    unsigned along = threads_along(request.dim);
    dim3 block(along, kThreads / along);
    Launch shape{blocks_for(request.num_codewords, block.y * kWalk), block, 0, stream};
    launch("means", shape, sum_columns, request);
  }
  launch("means", {blocks_for(request.num_codewords, kWarps), dim3(kThreads), 0, stream}, divide, request);
}

}  // namespace rvq::cuda
