// What a step of learning needs to know of rows on the device besides their codes and sums: the largest magnitudes of
// their columns, their distances to their codewords, and what these leave over.
//
// Shapes: vectors [count][dim], largest [dim], codes [count][code_stages], distances [count], residuals [count][dim].
// No shared memory. `raise_maxima`: threads along a row walk down kWalk rows each and meet in memory once, by integer
// maxima, which come out the same in any order. `measure_and_subtract`: eight neighbouring threads have a row, each one
// of the eight partial sums of docs/exactness.md, a block 32 rows; every operation is rounded on its own and in a fixed
// order. Both are bound by the memory: the first reads each row once, the second also writes it (on GeForce float64,
// three operations an element or four with weights, takes about as long).

#include "learning.h"

#include "canonical.cuh"
#include "launch.cuh"
#include "stage_table.cuh"

namespace rvq::cuda {

namespace {

constexpr unsigned kThreads = 256;
constexpr size_t kBlockRows = kThreads / kSumLanes;
// One maximum in memory for so many in a register.
constexpr size_t kWalk = 128;

__global__ void __launch_bounds__(kThreads)
    raise_maxima(const float* vectors, size_t count, int dim, unsigned* largest) {
  size_t begin = static_cast<size_t>(blockIdx.x) * blockDim.y * kWalk;
  size_t end = begin + blockDim.y * kWalk < count ? begin + blockDim.y * kWalk : count;
  for (int i = static_cast<int>(threadIdx.x); i < dim; i += static_cast<int>(blockDim.x)) {
    float own = 0;
    for (size_t row = begin + threadIdx.y; row < end; row += blockDim.y) {
      float magnitude = fabsf(vectors[row * dim + i]);
      // Not with NaN.
      if (magnitude > own) own = magnitude;
    }
    // Bits of numbers that are not negative are ordered as they are. Most blocks have nothing to raise.
    unsigned bits = __float_as_uint(own);
    if (bits > __ldcg(&largest[i])) atomicMax(&largest[i], bits);
  }
}

struct PassOnArguments {
  const float* vectors;
  size_t count;
  int dim;
  DeviceCodes codes;
  size_t code_stages;
  size_t stage;
  const float* codewords;
  uint32_t num_codewords;
  const float* weights;  // or null
  double* distances;
  double* plain_distances;  // or null
  float* residuals;         // or null
  unsigned* out_of_range;
};

__global__ void __launch_bounds__(kThreads) measure_and_subtract(const __grid_constant__ PassOnArguments job) {
  int lane = static_cast<int>(threadIdx.x) % kSumLanes;
  size_t row = static_cast<size_t>(blockIdx.x) * kBlockRows + threadIdx.x / kSumLanes;
  if (row >= job.count) return;
  unsigned row_threads = 0xffu << (threadIdx.x % 32 / kSumLanes * kSumLanes);
  size_t code = checked_code(job.codes, row * job.code_stages + job.stage, job.num_codewords, job.out_of_range);
  const float* c = job.codewords + code * job.dim;
  const float* x = job.vectors + row * job.dim;
  float* residual = job.residuals == nullptr ? nullptr : job.residuals + row * job.dim;

  double plain = 0;
  double weighted = 0;
#pragma unroll 4
  for (int i = lane; i < job.dim; i += kSumLanes) {
    float value = x[i];
    float codeword = c[i];
    double square = squared_difference(value, codeword);
    plain = __dadd_rn(plain, square);
    if (job.weights != nullptr) {
      weighted = __dadd_rn(weighted, __dmul_rn(static_cast<double>(job.weights[i]), square));
    }
    if (residual != nullptr) residual[i] = __fsub_rn(value, codeword);
  }
  plain = sum_of_lanes(plain, row_threads);
  if (job.weights != nullptr) weighted = sum_of_lanes(weighted, row_threads);
  if (lane != 0) return;
  job.distances[row] = job.weights == nullptr ? plain : weighted;
  if (job.plain_distances != nullptr) job.plain_distances[row] = plain;
}

}  // namespace

void raise_to_magnitudes(const float* vectors, size_t count, size_t dim, float* largest, CUstream_st* stream) {
  if (count == 0) return;
  unsigned along = threads_along(dim);
  dim3 block(along, kThreads / along);
  Launch shape{blocks_for(count, block.y * kWalk), block, 0, stream};
  launch("magnitudes", shape, raise_maxima, vectors, count, static_cast<int>(dim),
         reinterpret_cast<unsigned*>(largest));
}

void pass_on(const Codebooks& codebooks, const PassOnRequest& request, CUstream_st* stream) {
  if (request.count == 0) return;
  PassOnArguments job{request.vectors,
                      request.count,
                      static_cast<int>(codebooks.dim()),
                      request.codes,
                      request.code_stages,
                      request.stage,
                      codebooks.codewords(request.stage),
                      static_cast<uint32_t>(codebooks.num_codewords(request.stage)),
                      codebooks.weights(),
                      request.distances,
                      request.plain_distances,
                      request.residuals,
                      request.out_of_range};
  Launch shape{blocks_for(request.count, kBlockRows), dim3(kThreads), 0, stream};
  launch("pass_on", shape, measure_and_subtract, job);
}

}  // namespace rvq::cuda
