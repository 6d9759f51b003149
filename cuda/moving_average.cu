// The end of a stage in a step of learning: which rows count, the sums of their distances, and moving averages.
//
// Shapes: codes [count][code_stages], counted [count], distances [count], partial [blocks of 256 rows], usage
// [num_codewords], averages and codewords [num_codewords][dim]. The answer is that of lib/stage-errors.ts and
// lib/moving-average.ts to the bit: every operation is rounded on its own, and sums run in the order given there.
// `add_blocks`: a thread has 256 rows, one after the other, and a block is a warp, so that many multiprocessors share
// loads that are far apart; `add_partial`: a thread each of the four sums, of numbers
// that the block has brought to 8 KiB of shared memory.
// `average_usage`: one block, of whose threads the first adds up all codewords in order, some cycles each (a
// millisecond for 65,536 of them where float64 is slow). `average_codewords`: a warp a codeword, bound by reading and
// writing 28 bytes an element once.

#include "moving_average.h"

#include "canonical.cuh"
#include "grid.cuh"
#include "launch.cuh"
#include "stage_table.cuh"
#include "write_codeword.cuh"

namespace rvq::cuda {

namespace {

constexpr unsigned kThreads = 256;
constexpr unsigned kWarps = kThreads / 32;
// rowsOfABlock of lib/stage-errors.ts.
constexpr size_t kErrorRows = 256;
constexpr unsigned kErrorThreads = 32;

__global__ void __launch_bounds__(kThreads)
    mark_counted(const __grid_constant__ CountedRows rows, const __grid_constant__ DeviceCodes codes,
                 size_t code_stages, uint32_t num_codewords, uint32_t* counted) {
  size_t row = static_cast<size_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (row >= rows.count) return;
  bool stops = rows.stages_of_row != nullptr && rows.stages_of_row[row] <= rows.stage;
  bool met = rows.distances_before != nullptr && rows.distances_before[row] == 0;
  counted[row] = stops || met ? num_codewords : load_code(codes, row * code_stages + rows.stage);
}

__global__ void __launch_bounds__(kErrorThreads) add_blocks(const __grid_constant__ ErrorsRequest job) {
  size_t block = static_cast<size_t>(blockIdx.x) * kErrorThreads + threadIdx.x;
  size_t begin = block * kErrorRows;
  if (begin >= job.count) return;
  size_t end = begin + kErrorRows < job.count ? begin + kErrorRows : job.count;
  StageErrors sums{};
#pragma unroll 8
  for (size_t row = begin; row < end; row++) {
    size_t stages = job.stages_of_row == nullptr ? job.num_stages : job.stages_of_row[row];
    double weighted = job.distances[row];
    double plain = job.plain_distances[row];
    // Nothing is below zero: adding zero changes nothing.
    bool counts = stages > job.stage;
    sums.mass += counts ? 1 : 0;
    sums.weighted = __dadd_rn(sums.weighted, counts ? weighted : 0);
    sums.plain = __dadd_rn(sums.plain, counts ? plain : 0);
    sums.last = __dadd_rn(sums.last, stages == job.stage + 1 ? plain : 0);
  }
  job.partial[block] = sums;
}

// By arithmetic a thread that waits for one number of global memory after the other would take a fifth of a millisecond
// for 2^20 rows: all bring some, then four of them add.
__global__ void __launch_bounds__(kThreads) add_partial(const StageErrors* partial, size_t blocks, double* errors) {
  constexpr unsigned kSums = sizeof(StageErrors) / sizeof(double);
  __shared__ StageErrors brought[kThreads];
  double sum = 0;
  for (size_t first = 0; first < blocks; first += kThreads) {
    size_t some = blocks - first < kThreads ? blocks - first : kThreads;
    if (threadIdx.x < some) brought[threadIdx.x] = partial[first + threadIdx.x];
    __syncthreads();
    if (threadIdx.x < kSums) {
      const double* own = reinterpret_cast<const double*>(brought) + threadIdx.x;
#pragma unroll 8
      for (size_t block = 0; block < some; block++) sum = __dadd_rn(sum, own[block * kSums]);
    }
    __syncthreads();
  }
  if (threadIdx.x < kSums) errors[threadIdx.x] = sum;
}

// totals[0]: rows that count; totals[1]: Σ usage after the step.
__global__ void __launch_bounds__(kThreads) average_usage(const __grid_constant__ AverageRequest job) {
  // Fewer than 2^30.
  __shared__ unsigned rows;
  if (threadIdx.x == 0) rows = 0;
  __syncthreads();
  unsigned own = 0;
  for (size_t k = threadIdx.x; k < job.num_codewords; k += kThreads) {
    own += static_cast<unsigned>(job.counts[k]);
    job.masses[k] = static_cast<double>(job.counts[k]);
  }
  atomicAdd(&rows, own);
  __syncthreads();
  double total = static_cast<double>(rows);
  double equal = __ddiv_rn(total, static_cast<double>(job.num_codewords));
  double rest = __dsub_rn(1, job.decay);
  for (size_t k = threadIdx.x; k < job.num_codewords; k += kThreads) {
    if (rows != 0) {
      double before = job.unused ? equal : job.usage[k];
      job.usage[k] = __dadd_rn(__dmul_rn(job.decay, before), __dmul_rn(rest, job.masses[k]));
    }
    job.usage_out[k] = job.usage[k];
  }
  __syncthreads();
  if (threadIdx.x != 0) return;
  double sum = 0;
#pragma unroll 8
  for (size_t k = 0; k < job.num_codewords; k++) sum = __dadd_rn(sum, job.usage[k]);
  job.totals[0] = total;
  job.totals[1] = sum;
}

// launch on 100 120: stack 8, spills 32
__global__ void __launch_bounds__(kThreads) average_codewords(const __grid_constant__ AverageRequest job) {
  size_t k = static_cast<size_t>(blockIdx.x) * kWarps + threadIdx.x / 32;
  if (k >= job.num_codewords || job.totals[0] == 0) return;
  size_t lane = threadIdx.x % 32;
  double count = static_cast<double>(job.num_codewords);
  double mass = job.masses[k];
  double total = job.totals[1];
  double rest = __dsub_rn(1, job.decay);
  double smoothed = 1;
  double stands_for = 1;
  if (job.encodec) {
    double share = __ddiv_rn(__dadd_rn(job.usage[k], job.epsilon), __dadd_rn(total, __dmul_rn(count, job.epsilon)));
    smoothed = __dmul_rn(share, total);
    stands_for = __ddiv_rn(job.totals[0], count);
  }
  float* codeword = job.codewords + k * job.dim;
  double* averages = job.averages + k * job.dim;
  const long long* sums = job.sums + k * job.dim;
  for (size_t i = lane; i < job.dim; i += 32) {
    double average = job.unused ? __dmul_rn(stands_for, static_cast<double>(codeword[i])) : averages[i];
    if (job.encodec || mass > 0) {
      double added = from_grid(sums[i], job.grid_exponents[i]);
      if (!job.encodec) added = __ddiv_rn(added, mass);
      average = __dadd_rn(__dmul_rn(job.decay, average), __dmul_rn(rest, added));
    }
    averages[i] = average;
  }
  write_codeword(codeword, job.dim, job.cosine,
                 [=](size_t i) { return __double2float_rn(__ddiv_rn(averages[i], smoothed)); });
}

}  // namespace

void choose_counted(const CountedRows& rows, const DeviceCodes& codes, size_t code_stages, size_t num_codewords,
                    uint32_t* counted, CUstream_st* stream) {
  if (rows.count == 0) return;
  Launch shape{blocks_for(rows.count, kThreads), dim3(kThreads), 0, stream};
  launch("counted rows", shape, mark_counted, rows, codes, code_stages, static_cast<uint32_t>(num_codewords), counted);
}

size_t error_blocks(size_t count) { return (count + kErrorRows - 1) / kErrorRows; }

void sum_errors(const ErrorsRequest& request, CUstream_st* stream) {
  size_t blocks = error_blocks(request.count);
  if (blocks > 0) {
    Launch shape{blocks_for(blocks, kErrorThreads), dim3(kErrorThreads), 0, stream};
    launch("sums of errors", shape, add_blocks, request);
  }
  launch("sums of errors", {dim3(1), dim3(kThreads), 0, stream}, add_partial, request.partial, blocks,
         reinterpret_cast<double*>(request.errors));
}

void move_averages(const AverageRequest& request, CUstream_st* stream) {
  launch("averages", {dim3(1), dim3(kThreads), 0, stream}, average_usage, request);
  launch("averages", {blocks_for(request.num_codewords, kWarps), dim3(kThreads), 0, stream}, average_codewords,
         request);
}

}  // namespace rvq::cuda
