// Canonical distances: of vectors to their reconstructions, and to one centre.
//
// Shapes: vectors [count][dim], codes [count][code_stages], distances [count][stages]. Eight neighbouring threads have
// a row, each one of the eight partial sums of docs/exactness.md; a warp has four rows, a block 32. No shared memory.
// Every operation is rounded on its own and in a fixed order. Bound by the memory where float64 runs at half the rate
// of float32, by float64 (three operations an element and a stage) on GeForce.

#include <algorithm>
#include <cfloat>
#include <cmath>

#include "canonical.cuh"
#include "distances.h"
#include "launch.cuh"
#include "stage_table.cuh"

namespace rvq::cuda {

namespace {

constexpr unsigned kThreads = 256;
constexpr size_t kBlockRows = kThreads / kSumLanes;

// Their sums and addresses are in registers: 4 of each a stage.
constexpr int kStagesTogether = 8;

struct DistancesArguments {
  StageTable table;  // of at most kStagesTogether stages
  const float* vectors;
  size_t count;
  int dim;
  DeviceCodes codes;
  size_t code_stages;
  size_t first_stage;
  size_t stages;         // row stride of `distances`
  const float* weights;  // or null
  double* distances;
  // [count][dim]: the sums of the stages before this table's, read where there are some, and written where more follow.
  float* reconstructions;
  bool more_follow;
  unsigned* out_of_range;
};

template <int kStages>
__global__ void __launch_bounds__(kThreads) measure(const __grid_constant__ DistancesArguments job) {
  int lane = static_cast<int>(threadIdx.x) % kSumLanes;
  size_t own_row = static_cast<size_t>(blockIdx.x) * kBlockRows + threadIdx.x / kSumLanes;
  // Threads past the end go over the last row too: whole warps meet in the sums.
  size_t row = own_row < job.count ? own_row : job.count - 1;

  const float* codewords[kStages];
  double sums[kStages];
#pragma unroll
  for (int s = 0; s < kStages; s++) {
    sums[s] = 0;
    codewords[s] = job.table.codewords[0];
    if (s >= job.table.count) continue;
    size_t at = row * job.code_stages + job.first_stage + s;
    size_t code = checked_code(job.codes, at, job.table.num_codewords[s], job.out_of_range);
    codewords[s] = job.table.codewords[s] + code * job.dim;
  }

  const float* x = job.vectors + row * job.dim;
  float* reconstruction = job.reconstructions == nullptr ? nullptr : job.reconstructions + row * job.dim;
  for (int i = lane; i < job.dim; i += kSumLanes) {
    float value = x[i];
    double weight = job.weights == nullptr ? 1.0 : static_cast<double>(job.weights[i]);
    float sum = job.first_stage > 0 ? reconstruction[i] : 0.0f;
#pragma unroll
    for (int s = 0; s < kStages; s++) {
      if (s >= job.table.count) continue;
      sum = __fadd_rn(sum, codewords[s][i]);
      double square = squared_difference(value, sum);
      // A product with 1 is the number itself.
      sums[s] = __dadd_rn(sums[s], job.weights == nullptr ? square : __dmul_rn(weight, square));
    }
    if (job.more_follow && own_row < job.count) reconstruction[i] = sum;
  }

#pragma unroll
  for (int s = 0; s < kStages; s++) {
    double distance = sum_of_lanes(sums[s], kAll);
    if (s < job.table.count && lane == 0 && own_row < job.count) {
      job.distances[row * job.stages + job.first_stage + s] = distance;
    }
  }
}

struct LowerArguments {
  const float* vectors;
  size_t count;
  int dim;
  const float* weights;
  const float* centre;  // or null
  const uint32_t* centre_row;
  double* distances;
  bool fresh;
  double shrink;     // 1 − γ; zero where rows are too long for the bound to mean anything
  double underflow;  // an absolute error
};

__global__ void __launch_bounds__(kThreads) lower(const __grid_constant__ LowerArguments job) {
  int lane = static_cast<int>(threadIdx.x) % kSumLanes;
  size_t row = static_cast<size_t>(blockIdx.x) * kBlockRows + threadIdx.x / kSumLanes;
  if (row >= job.count) return;
  unsigned row_threads = 0xffu << (threadIdx.x % 32 / kSumLanes * kSumLanes);
  const float* x = job.vectors + row * job.dim;
  const float* centre = job.centre;
  if (centre == nullptr) {
    if (*job.centre_row == kNoRow) return;
    centre = job.vectors + static_cast<size_t>(*job.centre_row) * job.dim;
  }
  double lowest = job.fresh ? INFINITY : job.distances[row];

  if (job.weights == nullptr) {
    float rough = 0;
    for (int i = lane; i < job.dim; i += kSumLanes) {
      float difference = __fsub_rn(x[i], centre[i]);
      rough = __fmaf_rn(difference, difference, rough);
    }
    for (int step = 4; step > 0; step /= 2) rough = __fadd_rn(rough, __shfl_xor_sync(row_threads, rough, step));
    // Where float32 overflows it says nothing. The same number in all eight threads: they go on, or stop, together.
    if (rough <= FLT_MAX && rough * job.shrink - job.underflow > lowest) return;
  }
  double distance = canonical_distance(x, centre, job.weights, job.dim, lane, row_threads);
  // All have read it.
  __syncwarp(row_threads);
  if (lane == 0 && distance < lowest) job.distances[row] = distance;
}

}  // namespace

size_t distances_workspace_bytes(const Codebooks& codebooks, size_t count, size_t stages) {
  return stages > kStagesTogether ? count * codebooks.dim() * sizeof(float) : 0;
}

void distances(const Codebooks& codebooks, const DistancesRequest& request, CUstream_st* stream) {
  if (request.count == 0) return;
  for (size_t first = 0; first < request.stages; first += kStagesTogether) {
    size_t together = std::min<size_t>(kStagesTogether, request.stages - first);
    DistancesArguments job{};
    job.table = stage_table(codebooks, first, together);
    job.vectors = request.vectors;
    job.count = request.count;
    job.dim = static_cast<int>(codebooks.dim());
    job.codes = request.codes;
    job.code_stages = request.code_stages;
    job.first_stage = first;
    job.stages = request.stages;
    job.weights = request.weighted ? codebooks.weights() : nullptr;
    job.distances = request.distances;
    job.reconstructions = request.stages > kStagesTogether ? static_cast<float*>(request.workspace) : nullptr;
    job.more_follow = first + together < request.stages;
    job.out_of_range = request.out_of_range;
    Launch shape{blocks_for(request.count, kBlockRows), dim3(kThreads), 0, stream};
    if (together == 1) {
      launch("distances", shape, measure<1>, job);
    } else {
      launch("distances", shape, measure<kStagesTogether>, job);
    }
  }
}

void lower_distances(const LowerDistancesRequest& request, CUstream_st* stream) {
  if (request.count == 0) return;
  double roundings = static_cast<double>(request.dim + 16) * 0x1p-24;
  LowerArguments job{request.vectors,
                     request.count,
                     static_cast<int>(request.dim),
                     request.weights,
                     request.centre,
                     request.centre_row,
                     request.distances,
                     request.fresh,
                     roundings < 0.25 ? 1 - 2 * roundings : 0,
                     static_cast<double>(request.dim) * 0x1p-146};
  launch("lower_distances", {blocks_for(request.count, kBlockRows), dim3(kThreads), 0, stream}, lower, job);
}

}  // namespace rvq::cuda
