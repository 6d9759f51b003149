// Turns rows into float16 operands for the tensor cores, and measures what the screen's bound needs of them.

#pragma once

#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include <cstdint>

#include "canonical.cuh"
#include "encode_parameters.h"
#include "screen_bound.h"
#include "stage.cuh"

namespace rvq::cuda {

// Place of a thread in the fragments of mma.sync: row within eight, and quarter of the columns.
__device__ __forceinline__ int fragment_row() { return static_cast<int>(threadIdx.x) % 32 / 4; }
__device__ __forceinline__ int fragment_column() { return static_cast<int>(threadIdx.x) % 4; }

// How rows lie: any; in whole pieces of 16 bytes; or in such, and filling all steps of 16 dimensions.
enum class Layout { kAny, kAligned, kExact };

// The first of a thread's elements of the row at `row`. Its others are steps of 16 further: the compiler is not to see
// through this, or it keeps an address for each of them.
template <typename Float>
__device__ __forceinline__ Float* thread_elements(Float* row) {
  Float* elements = row + fragment_column() * 4;
  asm("" : "+l"(elements));
  __builtin_assume(__isGlobal(elements));
  return elements;
}

// Whether what is read from dim on, and not used, is read at all: it can be what another thread writes, and a check for
// races is not to hear of it.
#ifdef RVQ_EMULATE_CUDA
constexpr bool kReadsOutside = false;
#else
constexpr bool kReadsOutside = true;
#endif

// A thread's four elements of a step, zeros from dim on. Never branches: loads beside each other are then under way
// together.
template <Layout kLayout>
__device__ __forceinline__ float4 load4(const float* elements, int step, int dim) {
  if constexpr (kLayout == Layout::kExact) {
    return *reinterpret_cast<const float4*>(elements + step * 16);
  } else if constexpr (kLayout == Layout::kAligned) {
    bool inside = step * 16 + fragment_column() * 4 < dim;
    if (!kReadsOutside && !inside) return {0, 0, 0, 0};
    float4 x = *reinterpret_cast<const float4*>(elements + (inside ? step * 16 : -fragment_column() * 4));
    return inside ? x : float4{0, 0, 0, 0};
  } else {
    float x[4] = {};
#pragma unroll
    for (int i = 0; i < 4; i++) {
      bool inside = step * 16 + fragment_column() * 4 + i < dim;
      if (!kReadsOutside && !inside) break;
      float element = elements[inside ? step * 16 + i : -fragment_column() * 4];
      x[i] = inside ? element : 0;
    }
    return {x[0], x[1], x[2], x[3]};
  }
}

template <Layout kLayout>
__device__ __forceinline__ void store4(float* elements, int step, int dim, const float4& x) {
  int column = step * 16 + fragment_column() * 4;
  if constexpr (kLayout != Layout::kAny) {
    if (kLayout == Layout::kExact || column < dim) *reinterpret_cast<float4*>(elements + step * 16) = x;
  } else {
    if (column < dim) elements[step * 16] = x.x;
    if (column + 1 < dim) elements[step * 16 + 1] = x.y;
    if (column + 2 < dim) elements[step * 16 + 2] = x.z;
    if (column + 3 < dim) elements[step * 16 + 3] = x.w;
  }
}

__device__ __forceinline__ float4 subtract(const float4& x, const float4& c) {
  return {__fsub_rn(x.x, c.x), __fsub_rn(x.y, c.y), __fsub_rn(x.z, c.z), __fsub_rn(x.w, c.w)};
}

// Of the four threads that share a row, for all of them.
__device__ __forceinline__ float row_sum(float x) {
  x += __shfl_xor_sync(kAll, x, 1);
  return x + __shfl_xor_sync(kAll, x, 2);
}
__device__ __forceinline__ uint32_t row_max(uint32_t x) {
  x = max(x, __shfl_xor_sync(kAll, x, 1));
  return max(x, __shfl_xor_sync(kAll, x, 2));
}

// Off by less than 2^-22 of itself, as __fdividef is: without the calls by which what is rounded exactly is found.
__device__ __forceinline__ float approximate_sqrt(float x) {
#ifdef RVQ_EMULATE_CUDA
  return sqrtf(x) * (1 - 0x1p-23f);
#else
  float root;
  asm("sqrt.approx.f32 %0, %1;\n" : "=f"(root) : "f"(x));
  return root;
#endif
}

// Of a power of two.
__device__ __forceinline__ float inverse_of_power(float power) {
  return __uint_as_float((254u << 23) - __float_as_uint(power));
}

// What becomes of a row in a stage, for the four threads that share it alike.
struct RowState {
  float radius;     // ρ of screen_bound.h
  float inverse;    // 1/q; 0 where the row is not screened
  float fineness;   // what a score is multiplied by to be ranked (ranking.cuh); 0 likewise
  bool not_finite;  // gets code 0
  bool unknown;     // is compared with every codeword
};

// Sixteen rows of a warp at the start of a stage: rows 8·half + fragment_row() for half 0 and 1, by thread_elements().
struct RowTile {
  const float* from[2];  // the row; where there is none, a codeword
  bool exists[2];
  bool subtract;
  const float* codewords[2];  // to be subtracted first
  float* to[2];               // where the difference goes
  const float* centre;        // of the stage
};

namespace operands {

// The largest element of a row is brought below 2^15 where its squares add up to more than that allows.
constexpr int kLargestExponent = 14;
constexpr float kLargestSquares = 0x1p30f;
// Rows may be so many powers of two larger.
constexpr int kMostReduction = 14;

struct Sums {
  float squares = 0;
  float errors = 0;
  float steps = 0;  // of the squares up to the end of every step
};

// Two elements in the screen's space as a pair of float16.
__device__ __forceinline__ uint32_t round_pair(float a, float b, Sums& sums) {
  __half2 pair = __floats2half2_rn(a, b);
  float2 rounded = __half22float2(pair);
  float error_a = a - rounded.x;
  float error_b = b - rounded.y;
  sums.squares = fmaf(a, a, fmaf(b, b, sums.squares));
  sums.errors = fmaf(error_a, error_a, fmaf(error_b, error_b, sums.errors));
  return *reinterpret_cast<uint32_t*>(&pair);
}

// Steps first … first + kTogether − 1 of two rows: what is read is asked for before anything is written, because the
// compiler cannot know that it is not the same.
template <int kTogether, Layout kLayout>
__device__ __forceinline__ void make_steps(const RowTile& tile, const StageView& view, int dim, int first,
                                           const float (&scale)[2], Sums (&sums)[2], uint4 (&operands)[kTogether]) {
  // What later steps read is not to take up registers from the first on.
  asm volatile("" ::: "memory");
  float4 x[kTogether][2];
#pragma unroll
  for (int k = 0; k < kTogether; k++) {
#pragma unroll
    for (int half = 0; half < 2; half++) x[k][half] = load4<kLayout>(tile.from[half], first + k, dim);
  }
  if (tile.subtract) {
    float4 c[kTogether][2];
#pragma unroll
    for (int k = 0; k < kTogether; k++) {
#pragma unroll
      for (int half = 0; half < 2; half++) c[k][half] = load4<kLayout>(tile.codewords[half], first + k, dim);
    }
#pragma unroll
    for (int k = 0; k < kTogether; k++) {
#pragma unroll
      for (int half = 0; half < 2; half++) {
        x[k][half] = subtract(x[k][half], c[k][half]);
        if (tile.exists[half]) store4<kLayout>(tile.to[half], first + k, dim, x[k][half]);
      }
    }
  }
#pragma unroll
  for (int k = 0; k < kTogether; k++) {
    float4 centre = *reinterpret_cast<const float4*>(tile.centre + (first + k) * 16);
    float4 root = {view.scale[0], view.scale[0], view.scale[0], view.scale[0]};
    if (view.factors != nullptr) {
      root = *reinterpret_cast<const float4*>(view.factors + (first + k) * 16 + fragment_column() * 4);
    }
#pragma unroll
    for (int half = 0; half < 2; half++) {
      float4 y = subtract(x[k][half], centre);
      // A power of two.
      float last = view.scale[1] * scale[half];
      uint32_t low = round_pair(y.x * root.x * last, y.y * root.y * last, sums[half]);
      uint32_t high = round_pair(y.z * root.z * last, y.w * root.w * last, sums[half]);
      (half == 0 ? operands[k].x : operands[k].y) = low;
      (half == 0 ? operands[k].z : operands[k].w) = high;
      if ((first + k) * 16 < dim) sums[half].steps += sums[half].squares;
    }
  }
}

// The magnitude of the largest element in the screen's space; whether one is not finite as it was given, and where the
// first of those is. By the whole warp; rarely.
__device__ __forceinline__ uint32_t find_largest(const float* elements, const StageView& view, int dim,
                                                 uint32_t* not_finite) {
  const float* row = elements - fragment_column() * 4;
  uint32_t largest = 0;
  uint32_t first = ~0u;
#pragma unroll 1
  for (int i = fragment_column(); i < dim; i += 4) {
    float root = view.factors == nullptr ? view.scale[0] : view.factors[i];
    largest = max(largest, magnitude((row[i] - view.centre[i]) * root * view.scale[1]));
    if (magnitude(row[i]) >= kInfinityBits) first = min(first, static_cast<uint32_t>(i));
  }
  *not_finite = ~row_max(~first);
  return row_max(largest);
}

}  // namespace operands

// Turns a tile of rows into operands for a stage, after the codewords of the one before have been taken off, and says
// what becomes of its two rows. `make(tile, scale, sums)` does the work, by make_steps; once more for rows that are far
// out. Rows that are not finite are reported in `bad` as 2 · (place of the first element), counted from `all_rows`,
// where `bad` is not null. By the whole warp.
template <typename Make>
__device__ __forceinline__ void make_operands(RowTile tile, const StageView& view, int dim, const float* all_rows,
                                              unsigned long long* bad, RowState (&states)[2], RowLengths (&lengths)[2],
                                              const Make& make) {
  float scale[2] = {1, 1};
  operands::Sums sums[2];
#pragma unroll
  for (int half = 0; half < 2; half++) states[half] = {0, 0, 0, false, !view.screened};
  bool again = false;
#pragma unroll 1
  while (true) {
    make(tile, scale, sums);
    bool far = false;
#pragma unroll
    for (int half = 0; half < 2; half++) {
      sums[half].squares = row_sum(sums[half].squares);
      sums[half].errors = row_sum(sums[half].errors);
      sums[half].steps = row_sum(sums[half].steps);
      // Also where it is not a number. Below it no element is too large.
      far = far || !(sums[half].squares < operands::kLargestSquares);
    }
    if (again || !__any_sync(kAll, far)) break;
    again = true;
    // Rows with elements that float16 cannot hold are scaled down, or marked.
    __syncwarp();
#pragma unroll
    for (int half = 0; half < 2; half++) {
      if (tile.subtract && tile.exists[half]) tile.from[half] = tile.to[half];
      uint32_t not_finite = ~0u;
      uint32_t largest = operands::find_largest(tile.from[half], view, dim, &not_finite);
      int exponent = static_cast<int>(largest >> 23) - 127;
      if (not_finite != ~0u) {
        states[half].not_finite = true;
        if (bad != nullptr && tile.exists[half] && fragment_column() == 0) {
          atomicMin(bad, 2ull * (static_cast<unsigned long long>(tile.from[half] - fragment_column() * 4 - all_rows) +
                                 not_finite));
        }
      } else if (exponent > operands::kLargestExponent + operands::kMostReduction) {
        states[half].unknown = true;
      } else if (exponent > operands::kLargestExponent) {
        scale[half] = __int_as_float((127 + operands::kLargestExponent - exponent) << 23);
      }
      sums[half] = {};
    }
    tile.subtract = false;
  }
  float inflation = 1 + static_cast<float>(dim / 4 + 32) * 0x1p-24f;
#pragma unroll
  for (int half = 0; half < 2; half++) {
    float norm = approximate_sqrt(sums[half].squares) * inflation;
    float error = approximate_sqrt(sums[half].errors) * inflation + norm * 0x1p-22f + static_cast<float>(kFloor);
    float bound = norm + error;
    float ratio = fmaxf(1, __fdividef(error, bound) * static_cast<float>((1 + 0x1p-20) / kRowRounding));
    float steps_norm =
        approximate_sqrt(__fdividef(sums[half].steps, static_cast<float>(product_steps(dim)))) * (1 + 0x1p-8f);
    bool usable = !states[half].not_finite && !states[half].unknown;
    float inverse = usable ? inverse_of_power(scale[half]) : 0;
    states[half].inverse = inverse;
    states[half].radius = usable ? bound * ratio * (1 + 0x1p-16f) * inverse : 0;
    lengths[half] = {norm * inverse, error * inverse, (steps_norm + error) * inverse};
  }
}

// The row's part of the bound of a codeword as slots of an operand (screen_bound.h). The radius becomes what they hold.
__device__ __forceinline__ uint2 bound_slots(RowState& state) {
  float q = state.inverse > 0 ? inverse_of_power(state.inverse) : 0;
  float radius = __half2float(__float2half_ru(q * state.radius * kSlopeScale));
  if (!(radius < INFINITY)) {
    // Only of a row far out that float16 fits badly.
    state.unknown = true;
    state.inverse = q = radius = 0;
  }
  state.radius = radius / kSlopeScale * state.inverse;
  static_assert(kStartLimbs == 3);
  __half2 low = __floats2half2_rn(q * start_scale(0), q * start_scale(1));
  __half2 high = __floats2half2_rn(q * start_scale(2), radius);
  return {*reinterpret_cast<uint32_t*>(&low), *reinterpret_cast<uint32_t*>(&high)};
}

// So that no score of the row leaves the range of ranked scores, half of it on either side of 0, or all above.
template <bool kShifted>
__device__ __forceinline__ void choose_fineness(RowState& state, const StageView& view) {
  float range = static_cast<float>(1 << ((kShifted ? 31 : 30) - view.tag_bits)) * (1 - 0x1p-16f);
  float largest =
      kShifted ? largest_shifted(state.radius, view.largest_norm) : largest_score(state.radius, view.largest_norm);
  state.fineness = state.inverse > 0 ? __fdividef(range, largest) : 0;
}

}  // namespace rvq::cuda
