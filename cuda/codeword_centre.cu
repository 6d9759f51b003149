// Chooses the vector of each stage that is taken off rows and codewords before they are rounded: near most of the
// codewords. Any is correct, and is measured; one far away would have the screen prove nothing.
//
// It is the mean of the distinct codewords, or, where some are far from that, of the others: one codeword of a million
// among ones of one would move the centre away from every other. Far is more than 16 times the median squared distance
// (16 to 64 times, as exponents are compared), weights in it.
//
// Shapes: searched [num_codewords][dim], centre [dim]. 1. A block adds up the columns of a chunk of codewords, in
// float64, threads along the row; 2. a thread a column adds up the chunks, in their order. 3. Eight neighbouring
// threads measure a codeword's distance in float32, and count exponents by atomics on integers. 4. and 5. are 1. and 2.
// once more where some are far. So the centre is the same at every run. Shared memory: 3 KiB and 1 KiB. Bound by
// latency; of float64, where GeForce has 1/64 of the rate, two operations an element.

#include "codeword_team.cuh"

namespace rvq::cuda {

namespace {

// Squared distances whose exponent is larger by more than this are more than 16 times as far.
constexpr int kFar = 4;

// Who is near the first mean.
struct Reach {
  int exponent;  // the largest of those near
  bool all;
};

// By whole warps, for all of their threads.
__device__ __forceinline__ Reach find_reach(const unsigned* counts, int lane) {
  constexpr int kOwn = kExponents / 32;
  unsigned own = 0;
  for (int i = 0; i < kOwn; i++) own += counts[lane * kOwn + i];
  unsigned through = own;
  for (int step = 1; step < 32; step *= 2) {
    unsigned before = __shfl_up_sync(kAll, through, step);
    if (lane >= step) through += before;
  }
  unsigned middle = __shfl_sync(kAll, through, 31) / 2;
  // Of the thread whose exponents have the median.
  int median = lane * kOwn;
  unsigned passed = through - own;
  bool has_median = passed <= middle && middle < through;
  while (has_median && passed + counts[median] <= middle) passed += counts[median++];
  int reach = __shfl_sync(kAll, median, __ffs(static_cast<int>(__ballot_sync(kAll, has_median))) - 1) + kFar;
  bool some_far = false;
  for (int i = lane * kOwn; i < (lane + 1) * kOwn; i++) some_far |= i > reach && counts[i] > 0;
  return {reach, !__any_sync(kAll, some_far)};
}

// column_sums and column_counts, of all distinct codewords or, `again`, of those near the mean where some are not.
__global__ void __launch_bounds__(kPackThreads) add_columns(const __grid_constant__ PackRequest job, bool again) {
  __shared__ double sums[kPackThreads];
  __shared__ uint32_t counts[kPackThreads];
  const PackedStage stage = job.stages[blockIdx.y];
  unsigned thread = threadIdx.y * blockDim.x + threadIdx.x;
  Reach reach{kExponents, false};
  if (again) reach = find_reach(stage.totals->exponents, static_cast<int>(thread % 32));
  uint32_t chunk = chunk_codewords(stage.num_codewords);
  uint32_t begin = blockIdx.x * chunk;
  if (reach.all || begin >= stage.num_codewords) return;
  uint32_t end = min(begin + chunk, stage.num_codewords);
  for (int first = 0; first < job.dim; first += static_cast<int>(blockDim.x)) {
    int i = first + static_cast<int>(threadIdx.x);
    const float* column = stage.searched + (i < job.dim ? i : 0);
    double sum = 0;
    uint32_t count = 0;
#pragma unroll 4
    for (uint32_t k = begin + threadIdx.y; k < end; k += blockDim.y) {
      bool counted = stage.repeated[k] == 0 && (!again || stage.exponents[k] <= reach.exponent);
      // Read in any case: loads are then under way together.
      float element = column[static_cast<size_t>(k) * job.dim];
      sum += counted ? element : 0;
      count += counted;
    }
    sums[thread] = sum;
    counts[thread] = count;
    __syncthreads();
    if (threadIdx.y == 0 && i < job.dim) {
      for (unsigned y = 1; y < blockDim.y; y++) {
        sum += sums[y * blockDim.x + threadIdx.x];
        count += counts[y * blockDim.x + threadIdx.x];
      }
      stage.column_sums[static_cast<size_t>(blockIdx.x) * job.dim + i] = sum;
      if (i == 0) stage.column_counts[blockIdx.x] = count;
    }
    __syncthreads();
  }
}

// centre[i] = the mean, rounded to float32. A mean of float32 values cannot overflow.
__global__ void __launch_bounds__(kPackThreads) take_means(const __grid_constant__ PackRequest job, bool again) {
  const PackedStage stage = job.stages[blockIdx.y];
  if (again && find_reach(stage.totals->exponents, static_cast<int>(threadIdx.x % 32)).all) return;
  int i = static_cast<int>(blockIdx.x * kPackThreads + threadIdx.x);
  if (i >= job.dim) return;
  uint32_t chunks = chunks_of(stage.num_codewords);
  double sum = 0;
  uint32_t count = 0;
#pragma unroll 8
  for (uint32_t j = 0; j < chunks; j++) {
    sum += stage.column_sums[static_cast<size_t>(j) * job.dim + i];
    count += stage.column_counts[j];
  }
  // The first codeword is distinct, and a median near itself: there are some.
  stage.centre[i] = static_cast<float>(sum / count);
}

__global__ void __launch_bounds__(kPackThreads) measure_from_mean(const __grid_constant__ PackRequest job) {
  __shared__ unsigned counts[kExponents];
  static_assert(kExponents == kPackThreads);
  const PackedStage stage = job.stages[blockIdx.y];
  if (blockIdx.x * kPackTeams >= stage.num_codewords) return;
  counts[threadIdx.x] = 0;
  __syncthreads();
  CodewordTeam team;
  if (team.k < stage.num_codewords && stage.repeated[team.k] == 0) {
    const float* codeword = stage.searched + static_cast<size_t>(team.k) * job.dim;
    float distance = 0;
#pragma unroll 4
    for (int i = team.lane; i < job.dim; i += kSumLanes) {
      float difference = codeword[i] - stage.centre[i];
      float weight = job.weights == nullptr ? 1 : job.weights[i];
      distance = fmaf(weight * difference, difference, distance);
    }
    distance = team.sum(distance);
    if (team.lane == 0) {
      uint32_t exponent = magnitude(distance) >> 23;
      stage.exponents[team.k] = static_cast<unsigned char>(exponent);
      atomicAdd(&counts[exponent], 1u);
    }
  }
  __syncthreads();
  if (counts[threadIdx.x] > 0) atomicAdd(&stage.totals->exponents[threadIdx.x], counts[threadIdx.x]);
}

}  // namespace

void choose_centres(const PackRequest& request, CUstream_st* stream) {
  Launch columns{
      dim3(blocks_for(static_cast<size_t>(request.dim), kPackThreads).x, static_cast<unsigned>(request.num_stages)),
      dim3(kPackThreads), 0, stream};
  for (bool again : {false, true}) {
    if (again) launch("packing: distances", codeword_teams(request, stream), measure_from_mean, request);
    launch("packing: sums", chunks_of_columns(request, stream), add_columns, request, again);
    launch("packing: means", columns, take_means, request, again);
  }
}

}  // namespace rvq::cuda
