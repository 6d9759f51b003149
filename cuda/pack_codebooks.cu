// Packs codewords for the screen of the tensor cores, as float16 or two int8 limbs, and measures what their bounds need
// (screen_bound.h), after repeated codewords have been marked and centres chosen.
//
// Shapes: searched [num_codewords][dim]; tiles as in stage.cuh. All stages are in each launch, blockIdx.y. 1. A block
// finds the largest element of a chunk of codewords in the screen's space, threads along the row; the largest of all
// has one place in memory, raised by an atomic maximum on the bits of a float64. 2. Eight neighbouring threads have a
// codeword: they round it, write it to its tile, and measure norm and error; of these too the largest norm is an atomic
// maximum. 3. A thread has a place of a tile: it makes the bound, and raises and lowers what the stage's codewords have
// in common (CodewordErrors), of which nothing depends on the order. Repeated codewords have zeros; so have places
// without a codeword and padding from the start, and no launch writes there. Everything is the same at every run.
// Shared memory: less than 100 bytes.
//
// With the two steps before these are ten launches and a memset for all stages. Bound by latency: by estimate 2 to 4 µs
// a launch for 8 stages of 1024 codewords of 128 dimensions; on GeForce, with 1/64 of the rate, also by ten operations
// in float64 an element, twelve with weights, 5 to 6 µs a stage on a GA102. So errors are measured in float32.

#include "pack_codebooks.h"

#include <cuda_fp16.h>

#include <algorithm>

#include "codeword_team.cuh"
#include "failure.h"

namespace rvq::cuda {

namespace {

constexpr double kLeastLargestNorm = 0x1p6;

__device__ __forceinline__ unsigned long long bits_of(double x) {
  return static_cast<unsigned long long>(__double_as_longlong(x));
}
__device__ __forceinline__ double number_of(unsigned long long bits) {
  return __longlong_as_double(static_cast<long long>(bits));
}

// Most have nothing to raise.
__device__ __forceinline__ void raise(unsigned long long* largest, unsigned long long bits) {
  if (bits > __ldcg(largest)) atomicMax(largest, bits);
}

// The same of numbers that are not below zero.
__device__ __forceinline__ void raise(float* largest, float x) {
  auto place = reinterpret_cast<int*>(largest);
  if (__float_as_int(x) > __ldcg(place)) atomicMax(place, __float_as_int(x));
}
__device__ __forceinline__ void lower(float* least, float x) {
  auto place = reinterpret_cast<int*>(least);
  if (__float_as_int(x) < __ldcg(place)) atomicMin(place, __float_as_int(x));
}

__global__ void __launch_bounds__(kPackThreads) find_largest(const __grid_constant__ PackRequest job) {
  const PackedStage stage = job.stages[blockIdx.y];
  uint32_t chunk = chunk_codewords(stage.num_codewords);
  uint32_t begin = blockIdx.x * chunk;
  if (begin >= stage.num_codewords) return;
  uint32_t end = min(begin + chunk, stage.num_codewords);
  unsigned long long largest = 0;
  for (int i = static_cast<int>(threadIdx.x); i < job.dim; i += static_cast<int>(blockDim.x)) {
    double centre = stage.centre[i];
    double root = job.root_weights == nullptr ? 1 : job.root_weights[i];
#pragma unroll 4
    for (uint32_t k = begin + threadIdx.y; k < end; k += blockDim.y) {
      float element = stage.searched[static_cast<size_t>(k) * job.dim + i];
      double distance = static_cast<double>(element) - centre;
      if (job.root_weights != nullptr) distance *= root;
      unsigned long long bits = bits_of(distance) & ~(1ull << 63);
      if (stage.repeated[k] == 0 && bits > largest) largest = bits;
    }
  }
  for (int step = 16; step >= 1; step /= 2) {
    unsigned long long other = __shfl_xor_sync(kAll, largest, step);
    if (other > largest) largest = other;
  }
  if ((threadIdx.y * blockDim.x + threadIdx.x) % 32 == 0) raise(&stage.totals->largest, largest);
}

// How a stage's codewords come into the screen's space.
struct Scale {
  bool screened;
  int exponent;      // of p
  float limb_scale;  // g
};

__device__ __forceinline__ Scale choose_scale(const PackRequest& job, const StageTotals& totals) {
  double largest = number_of(totals.largest);
  // Codewords that others have changed need not be finite.
  if (!(largest < INFINITY)) return {false, 0, 1};
  if (!(largest > 0)) return {true, 0, 1};
  int exponent = kLargestExponent - 1 - ilogb(largest * kHeadroom);
  auto limb_scale = static_cast<float>(double{kMostLimbs} / ldexp(largest, exponent));
  // That of a row.
  bool finite = job.weights == nullptr || static_cast<float>(ldexp(job.largest_root, exponent / 2)) < INFINITY;
  return {finite, exponent, limb_scale};
}

// By the block that speaks for the stage.
__device__ __forceinline__ void describe(const PackRequest& job, const PackedStage& stage, const Scale& scale) {
  if (threadIdx.x == 0) {
    stage.view->screened = scale.screened;
    stage.view->scale[0] = ldexpf(1, scale.exponent / 2);
    stage.view->scale[1] = ldexpf(1, scale.exponent - scale.exponent / 2);
    stage.view->limb_scale = scale.limb_scale;
    stage.view->widest = {0, 0};
    stage.view->errors = {0, INFINITY, INFINITY, 0, 0, job.tile.limbs ? 0 : INFINITY};
  }
  if (job.weights == nullptr) return;
  for (int i = static_cast<int>(threadIdx.x); i < job.dim; i += static_cast<int>(kPackThreads)) {
    stage.factors[i] = static_cast<float>(ldexp(job.root_weights[i], scale.exponent / 2));
  }
}

// What a thread adds up of a codeword, of limbs in units of 1/g.
struct OwnSums {
  double squared_norm = 0;
  float squared_error = 0;
  double inner = 0;
  float squared_steps = 0;
  int squared_low = 0;
  float largest = 0;
};

// Four elements as float16, where they stand in the tile; their step is one of `steps_left` that are left.
__device__ __forceinline__ void round_to_halves(const float (&x)[4], unsigned char* tiles, const TileShape& tile,
                                                uint32_t k, int i, int steps_left, OwnSums& sums) {
  float inner = 0;
  float squares = 0;
#pragma unroll
  for (int n = 0; n < 4; n += 2) {
    __half2 pair = __floats2half2_rn(x[n], x[n + 1]);
    float2 rounded = __half22float2(pair);
    float errors[2] = {rounded.x - x[n], rounded.y - x[n + 1]};
    sums.squared_error = fmaf(errors[0], errors[0], fmaf(errors[1], errors[1], sums.squared_error));
    inner = fmaf(x[n], errors[0], fmaf(x[n + 1], errors[1], inner));
    squares = fmaf(x[n], x[n], fmaf(x[n + 1], x[n + 1], squares));
    *reinterpret_cast<uint32_t*>(tiles + tile.offset(k, i + n)) = *reinterpret_cast<uint32_t*>(&pair);
  }
  sums.squared_steps = fmaf(squares, static_cast<float>(steps_left), sums.squared_steps);
  sums.inner += inner;
}

// The same as limbs.
__device__ __forceinline__ void round_to_limbs(const float (&x)[4], unsigned char* tiles, const TileShape& tile,
                                               uint32_t k, int i, OwnSums& sums) {
  uint32_t high = 0;
  uint32_t low = 0;
  float inner = 0;
#pragma unroll
  for (int n = 0; n < 4; n++) {
    float rounded = rintf(x[n]);
    float error = rounded - x[n];
    auto whole = static_cast<int>(rounded);
    // Not to depend on how a number below zero is shifted.
    int high_limb = (whole + 128 + (1 << 16)) / 256 - 256;
    int low_limb = whole - 256 * high_limb;
    high |= static_cast<uint32_t>(high_limb & 255) << (8 * n);
    low |= static_cast<uint32_t>(low_limb & 255) << (8 * n);
    sums.squared_error = fmaf(error, error, sums.squared_error);
    inner = fmaf(x[n], error, inner);
    sums.squared_low += low_limb * low_limb;
    sums.largest = fmaxf(sums.largest, fabsf(x[n]));
  }
  sums.inner += inner;
  unsigned char* at = tiles + tile.offset(k, i);
  *reinterpret_cast<uint32_t*>(at) = high;
  *reinterpret_cast<uint32_t*>(at + tile.limb_bytes()) = low;
}

template <bool kLimbs>
__global__ void __launch_bounds__(kPackThreads, 4) pack_codewords(const __grid_constant__ PackRequest job) {
  __shared__ Scale shared_scale;
  __shared__ double shared_unit;     // p, of limbs times g
  __shared__ double shared_inverse;  // of g²
  const PackedStage stage = job.stages[blockIdx.y];
  if (blockIdx.x * kPackTeams >= stage.num_codewords) return;
  if (threadIdx.x == 0) {
    shared_scale = choose_scale(job, *stage.totals);
    double limb_scale = kLimbs ? shared_scale.limb_scale : 1;
    shared_unit = ldexp(limb_scale, shared_scale.exponent);
    shared_inverse = 1 / (limb_scale * limb_scale);
  }
  __syncthreads();
  if (blockIdx.x == 0) describe(job, stage, shared_scale);
  CodewordTeam team;
  if (team.k >= stage.num_codewords) return;
  bool present = shared_scale.screened && stage.repeated[team.k] == 0;
  double unit = shared_unit;
  const float* codeword = stage.searched + static_cast<size_t>(team.k) * job.dim;
  OwnSums own;
#pragma unroll 2
  for (int i = team.lane * 4; i < job.dim; i += kSumLanes * 4) {
    float x[4] = {};
#pragma unroll
    for (int n = 0; n < 4; n++) {
      if (!present || i + n >= job.dim) continue;
      double element = (static_cast<double>(codeword[i + n]) - static_cast<double>(stage.centre[i + n])) * unit;
      if (job.root_weights != nullptr) element *= job.root_weights[i + n];
      own.squared_norm = fma(element, element, own.squared_norm);
      x[n] = static_cast<float>(element);
    }
    if constexpr (kLimbs) {
      round_to_limbs(x, stage.tiles, job.tile, team.k, i, own);
    } else {
      round_to_halves(x, stage.tiles, job.tile, team.k, i, product_steps(job.dim) - i / 16, own);
    }
  }
  if (!present) return;
  double squared_norm = team.sum(own.squared_norm);
  float squared_error = team.sum(own.squared_error);
  double inner = team.sum(own.inner);
  double inverse = shared_inverse;
  CodewordSums sums{squared_norm * inverse, squared_error * inverse, inner * inverse, team.sum(own.squared_steps), 0};
  float largest = 0;
  if constexpr (kLimbs) {
    sums.squared_low = team.sum(own.squared_low) * inverse;
    largest = team.max(own.largest);
  }
  if (team.lane != 0) return;
  stage.sums[team.k] = sums;
  raise(&stage.totals->largest_squared_norm, bits_of(sums.squared_norm));
  if (kLimbs && squared_norm > 0) {
    float peak = largest / sqrtf(static_cast<float>(squared_norm));
    // Of a norm that is too small for a float32 it is 1.
    atomicAdd(&stage.totals->peaks, static_cast<unsigned long long>(fminf(peak, 1) * 0x1p32f));
    atomicAdd(&stage.totals->peaked, 1u);
  }
}

// Puts a codeword's bound into the slots that follow its dimensions, as screen_bound.h says, with `shift` of it in the
// slot kShiftSlot where the tile is shifted; returns what they hold.
__device__ __forceinline__ CodewordBound pack_slots(const CodewordBound& bound, float shift, unsigned char* tiles,
                                                    const TileShape& tile, uint32_t place) {
  auto put = [&](int slot, __half value) {
    *reinterpret_cast<__half*>(tiles + tile.offset(place, 16 * (tile.steps - 1) + slot)) = value;
    return static_cast<double>(__half2float(value));
  };
  double start = 0;
#pragma unroll
  for (int limb = 0; limb < kStartLimbs; limb++) {
    double rest = (bound.start - start) / start_scale(limb);
    __half value =
        limb + 1 < kStartLimbs ? __float2half_rn(static_cast<float>(rest)) : __float2half_ru(__double2float_ru(rest));
    start += put(limb, value) * start_scale(limb);
  }
  double slope = put(kStartLimbs, __float2half_ru(bound.slope / kSlopeScale)) * kSlopeScale;
  if (tile.is_shifted()) put(kShiftSlot, __float2half_ru(shift / kSlopeScale));
  return {static_cast<float>(start), static_cast<float>(slope)};
}

// What the bounds of a stage have in common.
struct BoundTerms {
  float largest;       // n
  float shift;         // c as the slots hold it, or 0
  CodewordBound none;  // of places without a codeword
  LimbRow row;
};

// With the view's part of it, by the thread that speaks for the stage.
__device__ __forceinline__ BoundTerms bound_terms(const PackRequest& job, const PackedStage& stage, bool speaks) {
  const StageTotals& totals = *stage.totals;
  // Where all codewords are alike it is not zero either: the bound of places without a codeword is to be far from
  // theirs.
  double largest_norm = fmax(sqrt(number_of(totals.largest_squared_norm)), kLeastLargestNorm);
  auto largest = static_cast<float>(largest_norm * (1 + 0x1p-20));
  double peak = totals.peaked > 0 ? static_cast<double>(totals.peaks) * 0x1p-32 / totals.peaked
                                  : 1 / sqrt(static_cast<double>(job.dim));
  float shift = job.tile.is_shifted() ? __half2float(__float2half_ru(shift_slope(largest) / kSlopeScale)) : 0;
  BoundTerms terms{largest, shift * kSlopeScale, bound_of_none(largest), limb_row(job.dim, peak)};
  double row_rounding = job.tile.limbs ? double{terms.row.error} : kRowRounding;
  // They are zero of themselves.
  if (job.tile.is_shifted()) terms.none = {0, 0};
  if (speaks) {
    stage.view->largest_norm = largest;
    stage.view->shift = terms.shift;
    stage.view->errors.row_rounding = static_cast<float>(row_rounding * (1 - 0x1p-20));
    stage.view->inverse_row_error = static_cast<float>((1 + 0x1p-20) / terms.row.error);
    stage.view->inverse_row_unit = static_cast<float>((1 + 0x1p-20) / terms.row.unit);
  }
  return terms;
}

__global__ void __launch_bounds__(kPackThreads) write_bounds(const __grid_constant__ PackRequest job) {
  __shared__ BoundTerms terms;
  const PackedStage stage = job.stages[blockIdx.y];
  if (blockIdx.x * kPackThreads >= stage.places) return;
  if (threadIdx.x == 0) terms = bound_terms(job, stage, blockIdx.x == 0);
  __syncthreads();
  uint32_t place = blockIdx.x * kPackThreads + threadIdx.x;
  if (place >= stage.places) return;
  CodewordBound bound{0, 0};
  float shift = 0;
  float width = 0;
  if (stage.view->screened) {
    bool present = place < stage.num_codewords && stage.repeated[place] == 0;
    if (!present) {
      bound = terms.none;
    } else if (job.tile.limbs) {
      bound = limb_codeword_bound(job.dim, terms.row, stage.view->limb_scale, stage.sums[place]);
    } else {
      bound = codeword_bound(job.dim, job.tile.warpgroup, stage.sums[place]);
    }
    if (present) {
      const CodewordSums& sums = stage.sums[place];
      auto norm = static_cast<float>(sqrt(sums.squared_norm));
      auto error = static_cast<float>(codeword_error(job.dim, sums));
      lower(&stage.view->errors.least_norm, norm);
      if (norm > 0) raise(&stage.view->errors.relative, error / norm);
      lower(&stage.view->errors.least, error);
      if (!job.tile.limbs) {
        lower(&stage.view->errors.least_of_sum, step_rounding(job.dim) * steps_norm(job.dim, sums) * (1 - 0x1p-9f));
      }
      raise(&stage.view->errors.largest, error);
    }
    if (present && job.tile.is_shifted()) {
      width = shifted_width(bound, terms.largest);
      shift = terms.shift;
      bound = shifted_bound(bound, terms.largest);
    }
  }
  if (job.tile.warpgroup) bound = pack_slots(bound, shift, stage.tiles, job.tile, place);
  float2 stored{job.tile.is_shifted() ? width : bound.start, bound.slope};
  stage.bounds[place] = stored;
  if (job.tile.is_shifted()) {
    raise(&stage.view->widest.x, stored.x);
    raise(&stage.view->widest.y, stored.y);
  }
  if (!job.tile.has_bounds()) return;
  uint32_t tile = place / job.tile.codewords;
  unsigned char* end = stage.tiles + static_cast<size_t>(tile + 1) * job.tile.bytes();
  reinterpret_cast<float2*>(end)[static_cast<int>(place % job.tile.codewords) - job.tile.codewords] = stored;
}

}  // namespace

void pack_codebooks(const PackRequest& request, CUstream_st* stream) {
  check(cudaMemsetAsync(request.cleared, 0, request.cleared_bytes, stream), "packing");
  for (size_t first = 0; first < request.num_stages; first += kMostGridStages) {
    PackRequest part = request;
    part.stages += first;
    part.num_stages = std::min(request.num_stages - first, kMostGridStages);
    mark_repeated(part, stream);
    choose_centres(part, stream);
    launch("packing: largest element", chunks_of_columns(part, stream), find_largest, part);
    launch("packing", codeword_teams(part, stream), part.tile.limbs ? pack_codewords<true> : pack_codewords<false>,
           part);
    auto tile_codewords = static_cast<size_t>(part.tile.codewords);
    size_t most_places = (part.most_codewords + tile_codewords - 1) / tile_codewords * tile_codewords;
    dim3 blocks(blocks_for(most_places, kPackThreads).x, static_cast<unsigned>(part.num_stages));
    launch("packing: bounds", {blocks, dim3(kPackThreads), 0, stream}, write_bounds, part);
  }
}

}  // namespace rvq::cuda
