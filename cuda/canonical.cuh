// The arithmetic that defines distances and unit vectors, by eight neighbouring threads of a warp: each has one of the
// eight partial sums of docs/exactness.md. Every operation is rounded on its own: no fused multiply-adds.

#pragma once

#include <cuda_runtime.h>

#include <cstdint>

namespace rvq::cuda {

constexpr int kSumLanes = 8;

// A whole warp, as a mask of threads.
constexpr unsigned kAll = 0xffffffff;

// Of what is not finite the magnitude is at least this.
constexpr uint32_t kInfinityBits = 0x7f800000;
__device__ __forceinline__ uint32_t magnitude(float x) { return __float_as_uint(x) & 0x7fffffff; }

// ((s0+s4)+(s2+s6))+((s1+s5)+(s3+s7)) of eight neighbouring threads, for all of them. `mask`: the threads that call.
__device__ __forceinline__ double sum_of_lanes(double sum, unsigned mask) {
  sum = __dadd_rn(sum, __shfl_xor_sync(mask, sum, 4));
  sum = __dadd_rn(sum, __shfl_xor_sync(mask, sum, 2));
  return __dadd_rn(sum, __shfl_xor_sync(mask, sum, 1));
}

// w_i · (x_i − c_i)².
__device__ __forceinline__ double squared_difference(float x, float c) {
  double t = __dsub_rn(static_cast<double>(x), static_cast<double>(c));
  return __dmul_rn(t, t);
}

// d64 of x[dim] and c[dim], which may be in any memory; `lane` is 0 … 7, threads 8j … 8j+7 of the warp together.
__device__ __forceinline__ double canonical_distance(const float* x, const float* c, const float* weights, int dim,
                                                     int lane, unsigned mask) {
  double sum = 0;
  if (weights == nullptr) {
#pragma unroll 8
    for (int i = lane; i < dim; i += kSumLanes) sum = __dadd_rn(sum, squared_difference(x[i], c[i]));
  } else {
    for (int i = lane; i < dim; i += kSumLanes) {
      sum = __dadd_rn(sum, __dmul_rn(static_cast<double>(weights[i]), squared_difference(x[i], c[i])));
    }
  }
  return sum_of_lanes(sum, mask);
}

// The same of two codewords without weights: their loads are under way together.
__device__ __forceinline__ void canonical_distances(const float* x, const float* const (&c)[2], int dim, int lane,
                                                    unsigned mask, double (&distances)[2]) {
  double sums[2] = {};
#pragma unroll 8
  for (int i = lane; i < dim; i += kSumLanes) {
    float element = x[i];
    for (int n = 0; n < 2; n++) sums[n] = __dadd_rn(sums[n], squared_difference(element, c[n][i]));
  }
  for (int n = 0; n < 2; n++) distances[n] = sum_of_lanes(sums[n], mask);
}

// Σ x_i² in float64 by the same lanes.
__device__ __forceinline__ double canonical_squared_norm(const float* x, int dim, int lane, unsigned mask) {
  double sum = 0;
  for (int i = lane; i < dim; i += kSumLanes) {
    double value = x[i];
    sum = __dadd_rn(sum, __dmul_rn(value, value));
  }
  return sum_of_lanes(sum, mask);
}

// fround(x / sqrt(squared norm)).
__device__ __forceinline__ float unit_element(float x, double squared_norm) {
  return __double2float_rn(__ddiv_rn(static_cast<double>(x), __dsqrt_rn(squared_norm)));
}

}  // namespace rvq::cuda
