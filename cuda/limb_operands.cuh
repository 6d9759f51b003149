// Turns rows into operands of two int8 limbs for the tensor cores, and measures what the screen's bound needs of them:
// screen_bound.h says what limbs are.

#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "canonical.cuh"
#include "row_operands.cuh"
#include "screen_bound.h"
#include "stage.cuh"

namespace rvq::cuda {

namespace operands {

// Rows whose largest element is smaller are scaled as if it were so large; where its exponent is above kMostExponent
// they are not screened.
constexpr float kLeastLargest = 0x1p-60f;
constexpr int kMostExponent = kLargestExponent + kMostReduction;

// From 2^23 to 2^24 a float32 is an integer, and its bits count up with it.
constexpr float kIntegers = 0x1.8p23f;

struct LimbRowSums {
  float squares = 0;
  float errors = 0;
  int lows = 0;
};

// Four elements in the screen's space times their row's scale: high and low limbs.
__device__ __forceinline__ uint2 round_limbs(const float4& z, LimbRowSums& sums) {
  const float elements[4] = {z.x, z.y, z.z, z.w};
  uint32_t bits[4];
#pragma unroll
  for (int i = 0; i < 4; i++) {
    float rounded = __fadd_rn(elements[i], kIntegers);
    float error = elements[i] - __fsub_rn(rounded, kIntegers);
    sums.squares = fmaf(elements[i], elements[i], sums.squares);
    sums.errors = fmaf(error, error, sums.errors);
    bits[i] = __float_as_uint(rounded);
  }
  // The lowest byte is the low limb; what the low limb takes away, the next has more.
  uint32_t low = __byte_perm(__byte_perm(bits[0], bits[1], 0x0040), __byte_perm(bits[2], bits[3], 0x0040), 0x5410);
#pragma unroll
  for (int i = 0; i < 4; i++) bits[i] += 128;
  uint32_t high = __byte_perm(__byte_perm(bits[0], bits[1], 0x0051), __byte_perm(bits[2], bits[3], 0x0051), 0x5410);
  sums.lows = __dp4a(static_cast<int>(low), static_cast<int>(low), sums.lows);
  return {high, low};
}

__device__ __forceinline__ float4 times(const float4& x, const float4& factor, float power) {
  return {x.x * factor.x * power, x.y * factor.y * power, x.z * factor.z * power, x.w * factor.w * power};
}

// Elements of step `step` of a row in the screen's space.
__device__ __forceinline__ float4 in_space(const float4& x, const float* centre, const StageView& view, int step) {
  float4 root = {view.scale[0], view.scale[0], view.scale[0], view.scale[0]};
  if (view.factors != nullptr) {
    root = *reinterpret_cast<const float4*>(view.factors + step * 16 + fragment_column() * 4);
  }
  return times(subtract(x, *reinterpret_cast<const float4*>(centre + step * 16)), root, view.scale[1]);
}

// Takes off the codewords of the stage before, and returns the largest magnitude of the thread's elements in the
// screen's space for either row.
template <int kSteps, Layout kLayout>
__device__ __forceinline__ void take_off(const RowTile& tile, const StageView& view, int dim, uint32_t (&largest)[2]) {
  largest[0] = largest[1] = 0;
#pragma unroll 1
  for (int first = 0; first < kSteps; first += 2) {
    // As in make_steps: what is read is asked for before anything is written.
    asm volatile("" ::: "memory");
    float4 x[2][2];
#pragma unroll
    for (int k = 0; k < 2; k++) {
#pragma unroll
      for (int half = 0; half < 2; half++) x[k][half] = load4<kLayout>(tile.from[half], first + k, dim);
    }
    if (tile.subtract) {
      float4 c[2][2];
#pragma unroll
      for (int k = 0; k < 2; k++) {
#pragma unroll
        for (int half = 0; half < 2; half++) c[k][half] = load4<kLayout>(tile.codewords[half], first + k, dim);
      }
#pragma unroll
      for (int k = 0; k < 2; k++) {
#pragma unroll
        for (int half = 0; half < 2; half++) {
          x[k][half] = subtract(x[k][half], c[k][half]);
          if (tile.exists[half]) store4<kLayout>(tile.to[half], first + k, dim, x[k][half]);
        }
      }
    }
#pragma unroll
    for (int k = 0; k < 2; k++) {
#pragma unroll
      for (int half = 0; half < 2; half++) {
        float4 y = in_space(x[k][half], tile.centre, view, first + k);
        largest[half] =
            max(max(largest[half], max(magnitude(y.x), magnitude(y.y))), max(magnitude(y.z), magnitude(y.w)));
      }
    }
  }
#pragma unroll
  for (int half = 0; half < 2; half++) largest[half] = row_max(largest[half]);
}

}  // namespace operands

// As make_operands; operands[2j] has the high limbs of dimensions 32j … 32j + 31, operands[2j + 1] the low ones.
template <int kSteps, Layout kLayout, int kOperands>
__device__ __forceinline__ void make_limb_operands(RowTile tile, const StageView& view, int dim, const float* all_rows,
                                                   unsigned long long* bad, RowState (&states)[2],
                                                   RowLengths (&lengths)[2], uint4 (&operands)[kOperands]) {
  static_assert(kSteps % 2 == 0 && kOperands == kSteps);
  uint32_t largest[2];
  operands::take_off<kSteps, kLayout>(tile, view, dim, largest);
  // What the thread has written it reads again: there is no room for it in registers.
  asm volatile("" ::: "memory");
  float scale[2];
  bool far = false;
#pragma unroll
  for (int half = 0; half < 2; half++) {
    if (tile.subtract && tile.exists[half]) tile.from[half] = tile.to[half];
    states[half] = {0, 0, 0, false, !view.screened};
    // Also where it is not a number.
    bool is_far = largest[half] >= static_cast<uint32_t>(127 + operands::kMostExponent + 1) << 23;
    // A little less, so that nothing is rounded up to more.
    scale[half] = is_far ? 0
                         : __fdividef(kMostLimbs * (1 - 0x1p-20f),
                                      fmaxf(__uint_as_float(largest[half]), operands::kLeastLargest));
    far = far || is_far;
  }
  if (__any_sync(kAll, far)) {
    __syncwarp();
#pragma unroll
    for (int half = 0; half < 2; half++) {
      uint32_t not_finite = ~0u;
      operands::find_largest(tile.from[half], view, dim, &not_finite);
      if (not_finite != ~0u) {
        states[half].not_finite = true;
        if (bad != nullptr && tile.exists[half] && fragment_column() == 0) {
          atomicMin(bad, 2ull * (static_cast<unsigned long long>(tile.from[half] - fragment_column() * 4 - all_rows) +
                                 not_finite));
        }
      } else if (scale[half] == 0) {
        states[half].unknown = true;
      }
    }
  }
  operands::LimbRowSums sums[2];
#pragma unroll
  for (int first = 0; first < kSteps; first += 2) {
    asm volatile("" ::: "memory");
    uint2 limbs[2][2];
#pragma unroll
    for (int half = 0; half < 2; half++) {
      float4 x[2];
#pragma unroll
      for (int k = 0; k < 2; k++) x[k] = load4<kLayout>(tile.from[half], first + k, dim);
#pragma unroll
      for (int k = 0; k < 2; k++) {
        float4 y = operands::in_space(x[k], tile.centre, view, first + k);
        float s = scale[half];
        limbs[k][half] = operands::round_limbs({y.x * s, y.y * s, y.z * s, y.w * s}, sums[half]);
      }
    }
    operands[first] = {limbs[0][0].x, limbs[0][1].x, limbs[1][0].x, limbs[1][1].x};
    operands[first + 1] = {limbs[0][0].y, limbs[0][1].y, limbs[1][0].y, limbs[1][1].y};
  }
  float inflation = 1 + static_cast<float>(dim / 4 + 32) * 0x1p-24f;
#pragma unroll
  for (int half = 0; half < 2; half++) {
    float norm = approximate_sqrt(row_sum(sums[half].squares)) * inflation;
    float error = approximate_sqrt(row_sum(sums[half].errors)) * inflation + norm * 0x1p-21f +
                  static_cast<float>(kFloor) * scale[half];
    float low = approximate_sqrt(row_sum(static_cast<float>(sums[half].lows))) * inflation;
    float radius =
        fmaxf(fmaxf(norm + error, fmaxf(error, low * 0x1p-8f) * view.inverse_row_error), view.inverse_row_unit);
    bool usable = !states[half].not_finite && !states[half].unknown;
    states[half].inverse = usable ? __fdividef(kLimbProduct, scale[half] * view.limb_scale) : 0;
    states[half].radius = usable ? __fdividef(radius, scale[half]) * (1 + 0x1p-16f) : 0;
    float inverse = usable ? __fdividef(1 + 0x1p-20f, scale[half]) : 0;
    lengths[half] = {norm * inverse, error * inverse, 0};
  }
}

}  // namespace rvq::cuda
