// What a block of the split search does: the codewords of a stage are shared out among blocks of the whole device.
//
// A launch a stage and one more. In each a block first settles the stage before for itself: it takes the nearest of
// what that stage's blocks have found for its rows, and subtracts that codeword; the blocks of the first slice also
// write the code and the residual. Then it searches its slice of the next stage's codewords and leaves the nearest to
// the launch after. No block waits for another, nothing depends on their order, and ties go to the smallest codeword.
//
// Shapes: 1 or 4 rows a block, whose codewords' elements are then read once for all of them; slices of 16 … 256
// codewords; grid (groups of rows, slices), so that blocks of the same slice run together and find it in the
// second-level cache. Eight neighbouring threads, a team, have a codeword at a time, a block 16 teams. Shared memory:
// the rows, and a float32 distance for every row and codeword of the slice, 4·rows·(D + slice) bytes.
//
// Canonical distances cost at least 4 float64 operations an element (one converts). Of these an H100 or H200 does 64 a
// clock and multiprocessor, GA102 (RTX 3090) two: one row, D 128, K 1024 is 4 K·D / 2 / 82 = 3200 cycles a stage
// there, 1.9 µs, and for 64 rows 120 µs, as long as three stages of the tensor cores' form. The float32 distances are
// two operations of 128 a clock and are proven to leave open all that can be nearest (float32_distance.cuh): mostly one
// codeword a row and block. So 64 rows take 8.4 M elements · 2 / 128 / 82 = 1600 cycles, and four rows that share what
// they read 8.4 MB of the second-level cache. With weights, and where float32 overflows, all distances are canonical.

#pragma once

#include <cuda_runtime.h>

#include <cstddef>
#include <cstdint>

#include "canonical.cuh"
#include "float32_distance.cuh"
#include "nearest.cuh"
#include "stage.cuh"

namespace rvq::cuda {

constexpr int kSplitThreads = 128;
constexpr int kSplitWarps = kSplitThreads / 32;
// Codewords at a time.
constexpr int kSplitTeams = kSplitThreads / kSumLanes;

struct SplitArguments {
  // The stage before, which is settled, or null.
  const StageView* before;
  const Nearest* before_found;  // [count][before_slices]
  int before_slices;
  void* codes;      // out: that of row 0
  int code_stride;  // from row to row
  bool wide;
  // The rows before that, and after it where that is wanted.
  const float* from;        // [count][dim]
  float* to;                // [count][dim] or null
  unsigned long long* bad;  // as in search.h at the first stage, else null
  // The stage that is searched.
  const StageView* view;
  Nearest* found;  // [count][gridDim.y] out
  int num_codewords;
  int slice;  // codewords of a block
  const float* weights;
  bool cosine;
  size_t count;
  int dim;
};

// Floats from row to row in shared memory.
__host__ __device__ constexpr int row_stride(int dim) { return (dim + 3) / 4 * 4; }

__host__ __device__ constexpr size_t shared_bytes_of(int rows, int dim, int slice) {
  return static_cast<size_t>(rows) * (row_stride(dim) + slice) * sizeof(float);
}

// The rows of a block and what its threads have to do with them. Blocks past the end have the last row instead.
template <int kRows>
struct SplitBlock {
  const SplitArguments& job;
  float* const rows;  // [kRows][row_stride] in shared memory
  const int stride = row_stride(job.dim);
  const int warp = static_cast<int>(threadIdx.x) / 32;
  const int lane = static_cast<int>(threadIdx.x) % 32;

  __device__ size_t own_row(int r) const { return static_cast<size_t>(blockIdx.x) * kRows + r; }
  __device__ size_t row(int r) const { return own_row(r) < job.count ? own_row(r) : job.count - 1; }
  // Whether this block speaks for row r: one does of those that have it.
  __device__ bool speaks_for(int r) const { return blockIdx.y == 0 && own_row(r) < job.count; }

  // Brings the rows to shared memory, after the codewords of the stage before have been taken off.
  __device__ __forceinline__ void settle() {
    __shared__ uint32_t codes[kRows];
    const float* codewords = nullptr;
    if (job.before != nullptr) {
      codewords = job.before->codewords;
      if (warp < kRows) {
        Nearest nearest;
        const Nearest* found = job.before_found + row(warp) * job.before_slices;
        for (int s = lane; s < job.before_slices; s += 32) nearest.take(found[s].distance, found[s].codeword);
        nearest.unite(1);
        if (lane == 0) codes[warp] = nearest.code();
        if (lane == 0 && speaks_for(warp)) write_code(row(warp), nearest.code());
      }
      __syncthreads();
    }
#pragma unroll 1
    for (int r = 0; r < kRows; r++) {
      size_t first = row(r) * job.dim;
      const float* codeword = codewords == nullptr ? nullptr : codewords + static_cast<size_t>(codes[r]) * job.dim;
      for (int i = static_cast<int>(threadIdx.x); i < job.dim; i += kSplitThreads) {
        float x = job.from[first + i];
        if (codeword != nullptr) x = __fsub_rn(x, codeword[i]);
        rows[r * stride + i] = x;
        if (!speaks_for(r)) continue;
        if (job.to != nullptr) job.to[first + i] = x;
        if (job.bad != nullptr && magnitude(x) >= kInfinityBits) atomicMin(job.bad, 2ull * (first + i));
      }
    }
    __syncthreads();
  }

  // Brings the rows to unit length. A row of zeros has no direction: infinity gets code 0.
  __device__ __forceinline__ void to_units() {
    __shared__ double squared_norms[kRows];
    if (warp < kRows) {
      double squared_norm = canonical_squared_norm(rows + warp * stride, job.dim, lane % kSumLanes, kAll);
      if (lane == 0) squared_norms[warp] = squared_norm;
      if (lane == 0 && squared_norm == 0 && job.bad != nullptr && speaks_for(warp)) {
        atomicMin(job.bad, 2ull * (row(warp) * job.dim) + 1);
      }
    }
    __syncthreads();
#pragma unroll 1
    for (int r = 0; r < kRows; r++) {
      double squared_norm = squared_norms[r];
      for (int i = static_cast<int>(threadIdx.x); i < job.dim; i += kSplitThreads) {
        float& x = rows[r * stride + i];
        x = squared_norm == 0 ? INFINITY : unit_element(x, squared_norm);
      }
    }
    __syncthreads();
  }

  // The nearest codeword of the slice to each row. rough[kRows][slice]: room for float32 distances.
  __device__ __forceinline__ void search(const float* codewords, float* rough) {
    __shared__ float least_of_warps[kSplitWarps][kRows];
    __shared__ double distances[kSplitWarps];
    __shared__ uint32_t nearest_codewords[kSplitWarps];
    int first = static_cast<int>(blockIdx.y) * job.slice;
    int size = min(job.slice, job.num_codewords - first);
    const float* slice = codewords + static_cast<size_t>(first) * job.dim;
    if (job.weights == nullptr) measure(slice, size, rough, least_of_warps[warp]);
    __syncthreads();

    // Warps have the rows in turn.
    int r = warp % kRows;
    float reach = INFINITY;
    if (job.weights == nullptr) {
      for (int w = 0; w < kSplitWarps; w++) reach = fminf(reach, least_of_warps[w][r]);
      reach = float32_reach(reach, job.dim);
    }
    Nearest nearest;
#pragma unroll 1
    for (int n = warp / kRows * 32; n < size; n += kSplitWarps / kRows * 32) {
      // An infinite reach has all of them, also those that are not a number.
      bool open = n + lane < size && (reach == INFINITY || rough[r * job.slice + n + lane] <= reach);
      unsigned candidates = __ballot_sync(kAll, open);
#pragma unroll 1
      while (candidates != 0) {
        int chosen = take_four(candidates, lane / kSumLanes);
        int k = n + max(chosen, 0);
        double distance = canonical_distance(rows + r * stride, slice + static_cast<size_t>(k) * job.dim, job.weights,
                                             job.dim, lane % kSumLanes, kAll);
        if (chosen >= 0) nearest.take(distance, static_cast<uint32_t>(first + k));
      }
    }
    nearest.unite(kSumLanes);
    if (lane == 0) {
      distances[warp] = nearest.distance;
      nearest_codewords[warp] = nearest.codeword;
    }
    __syncthreads();
    int own = static_cast<int>(threadIdx.x);
    if (own >= kRows || own_row(own) >= job.count) return;
    Nearest of_row;
    for (int w = own; w < kSplitWarps; w += kRows) of_row.take(distances[w], nearest_codewords[w]);
    job.found[own_row(own) * gridDim.y + blockIdx.y] = of_row;
  }

 private:
  __device__ void write_code(size_t row, uint32_t code) const {
    size_t place = row * job.code_stride;
    if (job.wide) {
      static_cast<uint32_t*>(job.codes)[place] = code;
    } else {
      static_cast<uint16_t*>(job.codes)[place] = static_cast<uint16_t>(code);
    }
  }

  // rough[r][k] = the float32 distance of every row and codeword; least[r]: the smallest of this warp's.
  __device__ __forceinline__ void measure(const float* slice, int size, float* rough, float* least) const {
    float smallest[kRows];
#pragma unroll
    for (int r = 0; r < kRows; r++) smallest[r] = INFINITY;
#pragma unroll 1
    for (int n = 0; n < size; n += kSplitTeams) {
      int k = n + static_cast<int>(threadIdx.x) / kSumLanes;
      // Teams past the end go over the last codeword too: whole warps meet in the sums.
      float sums[kRows];
      float32_distances(slice + static_cast<size_t>(min(k, size - 1)) * job.dim, sums);
#pragma unroll
      for (int r = 0; r < kRows; r++) {
        if (k < size && lane % kSumLanes == 0) rough[r * job.slice + k] = sums[r];
        smallest[r] = fminf(smallest[r], sums[r]);
      }
    }
#pragma unroll
    for (int r = 0; r < kRows; r++) {
#pragma unroll
      for (int step = kSumLanes; step <= 16; step *= 2) {
        smallest[r] = fminf(smallest[r], __shfl_xor_sync(kAll, smallest[r], step));
      }
      if (lane == 0) least[r] = smallest[r];
    }
  }

  // Of the team's codeword to each row, for all of its threads.
  __device__ __forceinline__ void float32_distances(const float* codeword, float (&sums)[kRows]) const {
#pragma unroll
    for (int r = 0; r < kRows; r++) sums[r] = 0;
    if (job.dim % 4 == 0) {
#pragma unroll kRows == 1 ? 4 : 2
      for (int i = lane % kSumLanes * 4; i < job.dim; i += kSumLanes * 4) {
        float4 c = __ldg(reinterpret_cast<const float4*>(codeword + i));
#pragma unroll
        for (int r = 0; r < kRows; r++) {
          float4 x = *reinterpret_cast<const float4*>(rows + r * stride + i);
          add_square(x.x - c.x, sums[r]);
          add_square(x.y - c.y, sums[r]);
          add_square(x.z - c.z, sums[r]);
          add_square(x.w - c.w, sums[r]);
        }
      }
    } else {
#pragma unroll kRows == 1 ? 8 : 4
      for (int i = lane % kSumLanes; i < job.dim; i += kSumLanes) {
        float c = __ldg(codeword + i);
#pragma unroll
        for (int r = 0; r < kRows; r++) add_square(rows[r * stride + i] - c, sums[r]);
      }
    }
#pragma unroll
    for (int r = 0; r < kRows; r++) {
#pragma unroll
      for (int step = kSumLanes / 2; step >= 1; step /= 2) sums[r] += __shfl_xor_sync(kAll, sums[r], step);
    }
  }
};

}  // namespace rvq::cuda
