// Residual encoding: a warp takes 16 or 32 rows through all stages. In each it turns its rows into float16 operands,
// multiplies them with the stage's codewords, which the block streams through shared memory, keeps the two best upper
// ends of the score (screen_bound.h) of every eighth codeword, and compares those that the bound leaves open by the
// canonical distance.
//
// The rows' operands stay in registers for the time of a stage (kSteps · 16 dimensions), or, with kSteps = 0, in a part of
// global memory that stays in the second-level cache. The residuals themselves are read and written once a stage.

#pragma once

#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include "canonical.cuh"
#include "encode_parameters.h"
#include "mma.cuh"
#include "screen_bound.h"
#include "stage.cuh"

namespace rvq::cuda {

constexpr int kWarps = 4;
constexpr int kThreads = kWarps * 32;
constexpr unsigned kAll = 0xffffffff;

// 16-row tiles of a warp: two share what is read of a codeword, as long as their operands fit in registers.
__host__ __device__ constexpr int row_tiles(int steps) { return steps > 8 ? 1 : 2; }
__host__ __device__ constexpr int block_rows(int steps) { return kWarps * row_tiles(steps) * 16; }
// Blocks a multiprocessor that the registers are held to.
__host__ __device__ constexpr int least_blocks(int steps) { return steps == 0 || steps > 12 ? 2 : 3; }

#ifdef RVQ_COUNT
__device__ unsigned long long compared_rows;
__device__ unsigned long long searched_places;
#endif

namespace encoding {

// x̂ beyond this is not representable by far: the row is scaled down.
constexpr int kLargestExponent = 14;
// Rows may be so many times 2^kLargestExponent.
constexpr int kMostReduction = 14;

struct Lanes {
  int lane = static_cast<int>(threadIdx.x) % 32;
  int group = lane / 4;   // row within eight
  int column = lane % 4;  // pair of columns within eight
};

// What the warp knows of its rows; slot 2i + h is row 16i + 8h + group, for the four threads of a group alike.
template <int kSlots>
struct RowState {
  float radius[kSlots];   // ρ
  float inverse[kSlots];  // 1/q
  unsigned not_finite;    // bit: the row gets code 0
  unsigned unknown;       // bit: the row is compared with every codeword
};

template <bool kAligned>
__device__ __forceinline__ float4 load4(const float* row, int column, int dim) {
  if constexpr (kAligned) {
    return column < dim ? *reinterpret_cast<const float4*>(row + column) : float4{0, 0, 0, 0};
  } else {
    return {column < dim ? row[column] : 0, column + 1 < dim ? row[column + 1] : 0,
            column + 2 < dim ? row[column + 2] : 0, column + 3 < dim ? row[column + 3] : 0};
  }
}

template <bool kAligned>
__device__ __forceinline__ void store4(float* row, int column, int dim, const float4& x) {
  if constexpr (kAligned) {
    if (column < dim) *reinterpret_cast<float4*>(row + column) = x;
  } else {
    if (column < dim) row[column] = x.x;
    if (column + 1 < dim) row[column + 1] = x.y;
    if (column + 2 < dim) row[column + 2] = x.z;
    if (column + 3 < dim) row[column + 3] = x.w;
  }
}

__device__ __forceinline__ float4 subtract(const float4& x, const float4& c) {
  return {__fsub_rn(x.x, c.x), __fsub_rn(x.y, c.y), __fsub_rn(x.z, c.z), __fsub_rn(x.w, c.w)};
}

// Sums of the four threads of a group, for all of them.
__device__ __forceinline__ float group_sum(float x) {
  x += __shfl_xor_sync(kAll, x, 1);
  return x + __shfl_xor_sync(kAll, x, 2);
}
__device__ __forceinline__ uint32_t group_max(uint32_t x) {
  x = max(x, __shfl_xor_sync(kAll, x, 1));
  return max(x, __shfl_xor_sync(kAll, x, 2));
}

__device__ __forceinline__ uint32_t magnitude(float x) { return __float_as_uint(x) & 0x7fffffff; }

constexpr uint32_t kInfinity = 0x7f800000;

// What is summed up of a row while it is turned into operands.
struct RowSums {
  float squares = 0;
  float errors = 0;
  uint32_t largest = 0;
};

// Two elements in the screen's space as a pair of float16.
__device__ __forceinline__ uint32_t round_pair(float a, float b, RowSums& sums) {
  __half2 pair = __floats2half2_rn(a, b);
  float2 rounded = __half22float2(pair);
  float error_a = a - rounded.x;
  float error_b = b - rounded.y;
  sums.squares = fmaf(a, a, fmaf(b, b, sums.squares));
  sums.errors = fmaf(error_a, error_a, fmaf(error_b, error_b, sums.errors));
  sums.largest = max(sums.largest, max(magnitude(a), magnitude(b)));
  return *reinterpret_cast<uint32_t*>(&pair);
}

}  // namespace encoding

template <int kSteps, bool kAligned>
class EncodeWarp {
  static constexpr bool kResident = kSteps > 0;
  static constexpr int kRowTiles = row_tiles(kSteps);
  static constexpr int kSlots = 2 * kRowTiles;
  static constexpr int kRows = 16 * kRowTiles;
  static constexpr TileShape kTile = kResident ? resident_tile(kSteps) : streamed_tile(4);
  // Groups of eight codewords at a time: as many sums as registers hold beside the operands.
  static constexpr int kGroups = kResident ? 4 : 8;
  using RowState = encoding::RowState<kSlots>;

 public:
  static constexpr int kUnitBytes = kResident ? kTile.bytes() : kTile.chunk_bytes();

  __device__ EncodeWarp(const EncodeParameters& parameters, uint32_t* codes)
      : parameters_(parameters), codes_(codes), steps_(kResident ? kSteps : streamed_tile((parameters.dim + 15) / 16).steps) {
    int warp = static_cast<int>(threadIdx.x) / 32;
    if constexpr (!kResident) {
      size_t all = static_cast<size_t>(steps_) * kRowTiles * 32;
      fragments_ = static_cast<uint4*>(parameters.fragments) + (static_cast<size_t>(blockIdx.x) * kWarps + warp) * all;
    }
  }

  // `next_unit()` gives the next piece of packed codewords, in shared memory, to all warps of the block together.
  template <typename NextUnit>
  __device__ void run(size_t first_row, const NextUnit& next_unit) {
    first_row_ = first_row;
    for (int s = 0; s < parameters_.stages; s++) {
      prepare(s);
      clear();
      for (int tile = 0; tile < parameters_.views[s].tiles; tile++) rank_tile(parameters_.views[s], tile, next_unit);
      settle(s);
      write_codes(s);
    }
    if (parameters_.keep_residuals) finish();
  }

 private:
  __device__ bool exists(int slot) const { return row_of(slot) < parameters_.count; }
  __device__ size_t row_of(int slot) const { return first_row_ + local_row(slot); }
  __device__ int local_row(int slot) const { return slot * 8 + lanes_.group; }
  __device__ const float* source(int s) const {
    return s == 0 ? parameters_.queries : parameters_.residuals;
  }

  // The rows of stage s: what stage s − 1 left, minus its codewords, as operands.
  __device__ void prepare(int s) {
    const StageView& view = parameters_.views[s];
    index_mask_ = view.index_mask;
    float scale[kSlots];
    encoding::RowSums sums[kSlots];
    for (int slot = 0; slot < kSlots; slot++) scale[slot] = 1;
    if (s == 0) {
      make_operands<false>(view, s, scale, sums);
    } else {
      make_operands<true>(view, s, scale, sums);
    }
    constexpr uint32_t kLimit = static_cast<uint32_t>(127 + encoding::kLargestExponent + 1) << 23;
    bool far = false;
    for (int slot = 0; slot < kSlots; slot++) {
      sums[slot].largest = encoding::group_max(sums[slot].largest);
      far = far || sums[slot].largest >= kLimit;
    }
    state_.not_finite = 0;
    state_.unknown = view.screened ? 0 : ~0u;
    if (__any_sync(kAll, far)) {
      __syncwarp();
      bring_near(view, s, scale, sums);
    }
    float inflation = 1 + static_cast<float>(parameters_.dim / 4 + 16) * 0x1p-24f;
    for (int slot = 0; slot < kSlots; slot++) {
      float norm = sqrtf(encoding::group_sum(sums[slot].squares)) * inflation;
      float error = sqrtf(encoding::group_sum(sums[slot].errors)) * inflation + norm * 0x1p-22f +
                    static_cast<float>(kFloor);
      float inverse = 1 / scale[slot];
      float bound = norm + error;
      float ratio = fmaxf(1, error / bound * static_cast<float>(1 / kRowRounding));
      bool usable = (state_.not_finite >> slot & 1) == 0 && (state_.unknown >> slot & 1) == 0;
      state_.radius[slot] = usable ? bound * ratio * (1 + 0x1p-16f) * inverse : 0;
      state_.inverse[slot] = usable ? inverse : 0;
    }
  }

  // Rows with elements that float16 cannot hold: scaled down, or marked.
  __device__ void bring_near(const StageView& view, int s, float (&scale)[kSlots], encoding::RowSums (&sums)[kSlots]) {
    for (int slot = 0; slot < kSlots; slot++) {
      uint32_t largest = sums[slot].largest;
      int exponent = static_cast<int>(largest >> 23) - 127;
      sums[slot] = {};
      bool overflowed = largest >= encoding::kInfinity;
      if (has_not_finite(s, slot, overflowed)) {
        state_.not_finite |= 1u << slot;
      } else if (overflowed) {
        state_.unknown |= 1u << slot;
      } else if (exponent > encoding::kLargestExponent + encoding::kMostReduction) {
        state_.unknown |= 1u << slot;
      } else if (exponent > encoding::kLargestExponent) {
        scale[slot] = __int_as_float((127 + encoding::kLargestExponent - exponent) << 23);
      }
    }
    make_operands<false>(view, s, scale, sums);
  }

  // Where `look`, looks at all elements of a row, of which each thread of a group has a share; reports the first that is
  // not finite where that is asked. Called by the whole warp.
  __device__ bool has_not_finite(int s, int slot, bool look) const {
    const float* row = source(s) + row_of(slot) * parameters_.dim;
    uint32_t first = ~0u;
    if (look && exists(slot)) {
      for (int i = lanes_.column; i < parameters_.dim; i += 4) {
        if (encoding::magnitude(row[i]) >= encoding::kInfinity) first = min(first, static_cast<uint32_t>(i));
      }
    }
    first = ~encoding::group_max(~first);
    bool found = first != ~0u;
    if (found && s == 0 && parameters_.bad != nullptr && lanes_.column == 0) {
      atomicMin(parameters_.bad, 2ull * (row_of(slot) * parameters_.dim + first));
    }
    return found;
  }

  // Reads the rows, with kSubtract first moving them on by the codewords of stage s − 1, and makes their operands.
  template <bool kSubtract>
  __device__ void make_operands(const StageView& view, int s, const float (&scale)[kSlots],
                                encoding::RowSums (&sums)[kSlots]) {
#pragma unroll
    for (int i = 0; i < kRowTiles; i++) make_operands<kSubtract>(view, s, i, &scale[2 * i], &sums[2 * i]);
    if constexpr (!kResident) __syncwarp();
  }

  // Of row tile i; scale[2] and sums[2] are those of its two slots.
  template <bool kSubtract>
  __device__ __forceinline__ void make_operands(const StageView& view, int s, int i, const float* scale,
                                                encoding::RowSums* sums) {
    const float* from[2];
    const float* codewords[2];
#pragma unroll
    for (int half = 0; half < 2; half++) {
      int slot = 2 * i + half;
      size_t row = exists(slot) ? row_of(slot) : 0;
      from[half] = (kSubtract && s == 1 ? parameters_.rows : source(s)) + row * parameters_.dim;
      if constexpr (kSubtract) {
        codewords[half] = parameters_.views[s - 1].codewords +
                          static_cast<size_t>(codes_[local_row(slot)]) * parameters_.dim;
      }
    }
    // The next step's elements are asked for before this step's are written back: the compiler cannot know that those are
    // different ones.
    float4 ahead[2];
    float4 ahead_codewords[2];
    auto load = [&](int k) {
#pragma unroll
      for (int half = 0; half < 2; half++) {
        int column = k * 16 + lanes_.column * 4;
        ahead[half] =
            exists(2 * i + half) ? encoding::load4<kAligned>(from[half], column, parameters_.dim) : float4{0, 0, 0, 0};
        if constexpr (kSubtract) {
          ahead_codewords[half] = encoding::load4<kAligned>(codewords[half], column, parameters_.dim);
        }
      }
    };
    auto step = [&](int k) {
      int column = k * 16 + lanes_.column * 4;
      float4 x[2];
#pragma unroll
      for (int half = 0; half < 2; half++) {
        x[half] = ahead[half];
        if constexpr (kSubtract) x[half] = encoding::subtract(x[half], ahead_codewords[half]);
      }
      if (k + 1 < steps_) load(k + 1);
      if constexpr (kSubtract) {
#pragma unroll
        for (int half = 0; half < 2; half++) {
          int slot = 2 * i + half;
          if (!exists(slot)) continue;
          encoding::store4<kAligned>(parameters_.residuals + row_of(slot) * parameters_.dim, column, parameters_.dim,
                                     x[half]);
        }
      }
      float4 centre = __ldg(reinterpret_cast<const float4*>(view.centre + column));
      float4 factor = {view.scale[0], view.scale[0], view.scale[0], view.scale[0]};
      if (view.factors != nullptr) factor = __ldg(reinterpret_cast<const float4*>(view.factors + column));
      uint4 operand;
#pragma unroll
      for (int half = 0; half < 2; half++) {
        // Exact where it matters: powers of two.
        float last = view.scale[1] * scale[half];
        float4 y = {(x[half].x - centre.x) * factor.x * last, (x[half].y - centre.y) * factor.y * last,
                    (x[half].z - centre.z) * factor.z * last, (x[half].w - centre.w) * factor.w * last};
        // Rows that do not exist pass for such that are at the centre.
        if (!exists(2 * i + half)) y = {0, 0, 0, 0};
        uint32_t first = encoding::round_pair(y.x, y.y, sums[half]);
        uint32_t second = encoding::round_pair(y.z, y.w, sums[half]);
        (half == 0 ? operand.x : operand.y) = first;
        (half == 0 ? operand.z : operand.w) = second;
      }
      if constexpr (kResident) {
        operands_[i][k] = operand;
      } else {
        fragments_[(static_cast<size_t>(k) * kRowTiles + i) * 32 + lanes_.lane] = operand;
      }
    };
    load(0);
    if constexpr (kResident) {
#pragma unroll
      for (int k = 0; k < kSteps; k++) step(k);
    } else {
#pragma unroll 1
      for (int k = 0; k < steps_; k++) step(k);
    }
  }

  __device__ void clear() {
    for (int slot = 0; slot < kSlots; slot++) {
      for (int parity = 0; parity < 2; parity++) best_[slot][parity] = second_[slot][parity] = -3e38f;
    }
  }

  // Multiplies the rows with one tile of codewords and ranks the scores.
  template <typename NextUnit>
  __device__ void rank_tile(const StageView& view, int tile, const NextUnit& next_unit) {
    constexpr int kTileGroups = kTile.codewords / 8;
    int first_group = tile * kTileGroups;
    if constexpr (kResident) {
      const unsigned char* unit = next_unit();
      const float4* bounds = reinterpret_cast<const float4*>(unit + kTile.chunk_bytes());
#pragma unroll 1
      for (int j = 0; j < kTileGroups; j += kGroups) {
        float sums[kRowTiles][kGroups][4] = {};
        const unsigned char* group = unit + j * (kSteps * 256);
#pragma unroll
        for (int k = 0; k + 1 < kSteps; k += 2) {
#pragma unroll
          for (int n = 0; n < kGroups; n++) {
            uint4 b = reinterpret_cast<const uint4*>(group + n * (kSteps * 256) + k * 256)[lanes_.lane];
#pragma unroll
            for (int i = 0; i < kRowTiles; i++) multiply_add(sums[i][n], operands_[i][k], b.x, b.y);
#pragma unroll
            for (int i = 0; i < kRowTiles; i++) multiply_add(sums[i][n], operands_[i][k + 1], b.z, b.w);
          }
        }
        if constexpr (kSteps % 2 == 1) {
#pragma unroll
          for (int n = 0; n < kGroups; n++) {
            uint2 b = reinterpret_cast<const uint2*>(group + n * (kSteps * 256) + (kSteps - 1) * 256)[lanes_.lane];
#pragma unroll
            for (int i = 0; i < kRowTiles; i++) multiply_add(sums[i][n], operands_[i][kSteps - 1], b.x, b.y);
          }
        }
        // Two codewords' bounds are four numbers: a group of eight has four such, one for each thread's pair.
#pragma unroll
        for (int n = 0; n < kGroups; n++) {
          rank_group(view, first_group + j + n, bounds[(j + n) * 4 + lanes_.column], sums, n);
        }
      }
    } else {
      float sums[kRowTiles][kGroups][4] = {};
      for (int chunk = 0; chunk < steps_ / kTile.chunk_steps; chunk++) {
        const unsigned char* unit = next_unit();
        const uint4* operands =
            fragments_ + static_cast<size_t>(chunk) * kTile.chunk_steps * kRowTiles * 32 + lanes_.lane;
#pragma unroll
        for (int k = 0; k < kTile.chunk_steps; k += 2) {
          uint4 a[2][kRowTiles];
#pragma unroll
          for (int h = 0; h < 2; h++) {
#pragma unroll
            for (int i = 0; i < kRowTiles; i++) a[h][i] = operands[((k + h) * kRowTiles + i) * 32];
          }
#pragma unroll
          for (int n = 0; n < kGroups; n++) {
            uint4 b = reinterpret_cast<const uint4*>(unit + n * (kTile.chunk_steps * 256) + k * 256)[lanes_.lane];
#pragma unroll
            for (int i = 0; i < kRowTiles; i++) multiply_add(sums[i][n], a[0][i], b.x, b.y);
#pragma unroll
            for (int i = 0; i < kRowTiles; i++) multiply_add(sums[i][n], a[1][i], b.z, b.w);
          }
        }
      }
      const float4* bounds = reinterpret_cast<const float4*>(view.bounds + static_cast<size_t>(tile) * kTile.codewords);
#pragma unroll
      for (int n = 0; n < kGroups; n++) {
        rank_group(view, first_group + n, __ldg(bounds + n * 4 + lanes_.column), sums, n);
      }
    }
  }

  // Takes the scores of a group of eight codewords; `bounds` of this thread's two: start, slope, start, slope.
  __device__ __forceinline__ void rank_group(const StageView& view, int group, const float4& bounds,
                                             const float (&sums)[kRowTiles][kGroups][4], int n) {
    uint32_t keep = ~index_mask_;
#pragma unroll
    for (int slot = 0; slot < kSlots; slot++) {
#pragma unroll
      for (int parity = 0; parity < 2; parity++) {
        float sum = sums[slot / 2][n][slot % 2 * 2 + parity];
        float start = parity == 0 ? bounds.x : bounds.z;
        float slope = parity == 0 ? bounds.y : bounds.w;
        float upper = fmaf(state_.radius[slot], slope, fmaf(sum, state_.inverse[slot], start));
        float tagged = __uint_as_float((__float_as_uint(upper) & keep) | static_cast<uint32_t>(group));
        second_[slot][parity] = fmaxf(second_[slot][parity], fminf(best_[slot][parity], tagged));
        best_[slot][parity] = fmaxf(best_[slot][parity], tagged);
      }
    }
  }

  // How far the tag may have moved a score.
  __device__ float slack(float tagged) const {
    return fabsf(tagged) * (static_cast<float>(index_mask_ + 4) * 0x1p-23f) + 1e-30f;
  }
  __device__ uint32_t codeword_of(float tagged, int parity) const {
    return (__float_as_uint(tagged) & index_mask_) * 8 + static_cast<uint32_t>(lanes_.column * 2 + parity);
  }

  // codes_[row] for all rows of the warp.
  __device__ void settle(int s) {
    const StageView& view = parameters_.views[s];
#pragma unroll
    for (int slot = 0; slot < kSlots; slot++) {
      // The largest lower end of the eight places that have kept a best: no lower upper end can be the nearest.
      float lower = -INFINITY;
#pragma unroll
      for (int parity = 0; parity < 2; parity++) {
        float tagged = best_[slot][parity];
        float2 bound = view.bounds[min(codeword_of(tagged, parity), last_place(view))];
        float width = state_.radius[slot] * bound.y - bound.x * static_cast<float>(kNormRounding * 1.01);
        lower = fmaxf(lower, tagged - slack(tagged) - 2 * width);
      }
      lower = fmaxf(lower, __shfl_xor_sync(kAll, lower, 1));
      lower = fmaxf(lower, __shfl_xor_sync(kAll, lower, 2));
      float reach = state_.radius[slot] + view.largest_norm;
      lower -= order_rounding(parameters_.dim) * reach * reach + fabsf(lower) * 0x1p-22f;

      // Bits of the group's threads: candidates, and places that may have hidden a third one.
      unsigned candidates = 0;
      unsigned hidden = 0;
      int shift = lanes_.lane & 28;
#pragma unroll
      for (int parity = 0; parity < 2; parity++) {
        float best = best_[slot][parity];
        float second = second_[slot][parity];
        candidates |= (__ballot_sync(kAll, best + slack(best) >= lower) >> shift & 15) << (4 * parity);
        hidden |= (__ballot_sync(kAll, second + slack(second) >= lower) >> shift & 15) << (4 * parity);
      }
      if (state_.unknown >> slot & 1) candidates = hidden = 255;
      bool zero = !exists(slot) || (state_.not_finite >> slot & 1) != 0;
      bool certain = zero || (hidden == 0 && __popc(candidates) == 1);
      if (certain) {
        if (zero) {
          if (lanes_.column == 0) codes_[local_row(slot)] = 0;
        } else {
          for (int parity = 0; parity < 2; parity++) {
            if (candidates >> (4 * parity + lanes_.column) & 1)
              codes_[local_row(slot)] = codeword_of(best_[slot][parity], parity);
          }
        }
      }
      // The whole warp compares the candidates of one row after the other.
      unsigned open = __ballot_sync(kAll, !certain && lanes_.column == 0);
      while (open != 0) {
        int leader = __ffs(static_cast<int>(open)) - 1;
        open &= open - 1;
#ifdef RVQ_COUNT
        unsigned places = __shfl_sync(kAll, hidden, leader);
        if (lanes_.lane == 0) {
          atomicAdd(&compared_rows, 1ull);
          atomicAdd(&searched_places, static_cast<unsigned long long>(__popc(places)));
        }
#endif
        compare(view, s, slot, leader, __shfl_sync(kAll, candidates, leader), __shfl_sync(kAll, hidden, leader));
      }
    }
    __syncwarp();
  }

  __device__ uint32_t last_place(const StageView& view) const {
    return static_cast<uint32_t>(view.tiles) * kTile.codewords - 1;
  }

  // The canonical distances of the row of `leader`'s group to its candidates; eight threads take one at a time.
  __device__ __forceinline__ void compare(const StageView& view, int s, int slot, int leader, unsigned candidates, unsigned hidden) {
    int team = lanes_.lane / 8;
    int lane = lanes_.lane % 8;
    unsigned mask = 0xffu << (8 * team);
    int local = slot * 8 + leader / 4;
    const float* row = source(s) + (first_row_ + local) * parameters_.dim;
    double least = INFINITY;
    uint32_t nearest = ~0u;
    auto consider = [&](uint32_t k) {
      double distance = canonical_distance(row, view.searched + static_cast<size_t>(k) * parameters_.dim,
                                           parameters_.weights, parameters_.dim, lane, mask);
      if (distance < least || (distance == least && k < nearest)) {
        least = distance;
        nearest = k;
      }
    };
#pragma unroll
    for (int parity = 0; parity < 2; parity++) {
      // A place that is looked through as a whole needs no look at its best.
      uint32_t k = (__shfl_sync(kAll, __float_as_uint(best_[slot][parity]), leader + team) & index_mask_) * 8 +
                   static_cast<uint32_t>(team * 2 + parity);
      if ((candidates & ~hidden) >> (4 * parity + team) & 1) consider(k);
    }
    __syncwarp();
    for (int place = 0; place < 8; place++) {
      if ((hidden >> place & 1) == 0) continue;
      for (int k = team * 8 + place % 4 * 2 + place / 4; k < view.num_codewords; k += 32) {
        consider(static_cast<uint32_t>(k));
      }
      __syncwarp();
    }
#pragma unroll
    for (int step = 8; step <= 16; step *= 2) {
      double other = __shfl_xor_sync(kAll, least, step);
      uint32_t other_k = __shfl_xor_sync(kAll, nearest, step);
      if (other < least || (other == least && other_k < nearest)) {
        least = other;
        nearest = other_k;
      }
    }
    if (lanes_.lane == 0) codes_[local] = nearest == ~0u ? 0 : nearest;
  }

  __device__ void write_codes(int s) const {
    for (int r = lanes_.lane; r < kRows; r += 32) {
      size_t row = first_row_ + r;
      if (row >= parameters_.count) continue;
      size_t place = row * parameters_.code_stride + s;
      if (parameters_.wide) {
        static_cast<uint32_t*>(parameters_.codes)[place] = codes_[r];
      } else {
        static_cast<uint16_t*>(parameters_.codes)[place] = static_cast<uint16_t>(codes_[r]);
      }
    }
  }

  // Residuals after the last stage.
  __device__ void finish() const {
    const StageView& view = parameters_.views[parameters_.stages - 1];
    const float* from = parameters_.stages == 1 ? parameters_.rows : parameters_.residuals;
    for (int slot = 0; slot < kSlots; slot++) {
      if (!exists(slot)) continue;
      size_t first = row_of(slot) * parameters_.dim;
      const float* codeword = view.codewords + static_cast<size_t>(codes_[local_row(slot)]) * parameters_.dim;
      for (int column = lanes_.column * 4; column < parameters_.dim; column += 16) {
        float4 x = encoding::subtract(encoding::load4<kAligned>(from + first, column, parameters_.dim),
                                    encoding::load4<kAligned>(codeword, column, parameters_.dim));
        encoding::store4<kAligned>(parameters_.residuals + first, column, parameters_.dim, x);
      }
    }
  }

  const EncodeParameters& parameters_;
  uint32_t* const codes_;  // [kRows] in shared memory
  const int steps_;
  const encoding::Lanes lanes_;
  size_t first_row_ = 0;
  uint32_t index_mask_ = 0;
  uint4 operands_[kRowTiles][kResident ? kSteps : 1];
  uint4* fragments_ = nullptr;
  RowState state_;
  // Of the scores of codewords 8j + 2·column + parity, over all j: upper ends with j in the lowest bits.
  float best_[kSlots][2];
  float second_[kSlots][2];
};

}  // namespace rvq::cuda
