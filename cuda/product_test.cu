// What a device's tensor cores do, by trying them.

#include "product_test.h"

#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include <cstring>
#include <map>
#include <mutex>

#include "device_memory.h"
#include "failure.h"
#include "launch.cuh"
#include "mma.cuh"
#include "row_operands.cuh"
#include "screen_bound.h"
#include "stage.cuh"
#include "stream.h"
#include "wgmma.cuh"

namespace rvq::cuda {

namespace {

constexpr int kSteps = 8;
constexpr int kDim = 16 * kSteps;
constexpr int kPatterns = 64;

__device__ uint32_t scramble(uint32_t x) {
  x ^= x >> 16;
  x *= 0x7feb352d;
  x ^= x >> 15;
  x *= 0x846ca68b;
  return x ^ x >> 16;
}

// Element i of row or codeword `vector` in a pattern. Sums lose most where a few products are large, many are just too
// small to be kept beside them, and the large ones cancel.
__device__ __half element(int pattern, int vector, int i, bool of_codeword) {
  uint32_t random = scramble(static_cast<uint32_t>(((pattern * 512 + vector) * 2 + of_codeword) * kDim + i));
  float mantissa = 1 + static_cast<float>(random >> 22) * 0x1p-10f;
  bool large = i % (1 + pattern % 16) == 0;
  // In some of them what is large comes last.
  if (pattern / 16 == 3) large = large && i >= kDim / 2;
  int below = pattern / 16 % 4 * 4;
  float magnitude = large ? mantissa * 64 : mantissa * exp2f(static_cast<float>(-below));
  bool negative = pattern % 3 == 0 ? large && i % 2 == 1 : pattern % 3 == 1 ? (random & 1) != 0 : false;
  return __float2half_rn(negative && !of_codeword ? -magnitude : magnitude);
}

__device__ uint32_t pair(int pattern, int vector, int i, bool of_codeword) {
  __half2 both = __halves2half2(element(pattern, vector, i, of_codeword), element(pattern, vector, i + 1, of_codeword));
  return *reinterpret_cast<uint32_t*>(&both);
}

// The largest error of the thread's sums with a group of eight codewords, in units of what the bound takes for granted
// (screen_bound.h): γ·a_x·a_k + γ_c·|x|·|c|.
__device__ float worst_of(const float (&sums)[4], int pattern, int first_row, int group) {
  float worst = 0;
  for (int s = 0; s < 4; s++) {
    int row = first_row + s / 2 * 8 + fragment_row();
    int codeword = group * 8 + fragment_column() * 2 + s % 2;
    double exact = 0;
    double row_norm = 0;
    double codeword_norm = 0;
    double row_steps = 0;
    double codeword_steps = 0;
    for (int i = 0; i < kDim; i++) {
      double x = __half2float(element(pattern, row, i, false));
      double c = __half2float(element(pattern, codeword, i, true));
      exact += x * c;
      row_norm += x * x;
      codeword_norm += c * c;
      if (i % 16 != 15) continue;
      row_steps += row_norm;
      codeword_steps += codeword_norm;
    }
    double bound = double{step_rounding(kDim)} / kSteps * sqrt(row_steps * codeword_steps) +
                   double{kMoreRounding} * sqrt(row_norm * codeword_norm);
    // One that is not a number is as wrong as can be.
    double error = fabs(static_cast<double>(sums[s]) - exact) / bound;
    worst = fmaxf(worst, error < INFINITY ? static_cast<float>(error) : INFINITY);
  }
  return worst;
}

struct Measured {
  unsigned worst;      // the largest error of all, as the bits of a float32 that is not negative
  unsigned warpgroup;  // whether wgmma was among what was tried
  unsigned integers;   // how many integer sums were tried
  unsigned wrong;      // and how many of them were not right
};

// Of wgmma; four groups of eight are looked at.
constexpr int kCodewords = 128;
__host__ __device__ constexpr TileShape test_tile() { return {kCodewords, kSteps, kSteps, true}; }
constexpr int kLookedAt = 4;

#ifdef RVQ_WARPGROUP

// The same of wgmma, with operands of rows from registers, and as `store_row_step` lays them. By a warpgroup.
__device__ float worst_of_warpgroup(const uint4 (&rows)[kSteps], int pattern, int first_row) {
  constexpr TileShape kTile = test_tile();
  unsigned char* codewords = dynamic_shared_memory();
  unsigned char* shared_rows = codewords + kTile.chunk_bytes();
  for (int place = static_cast<int>(threadIdx.x); place < kCodewords * kDim; place += 128) {
    int k = place / kDim;
    int i = place % kDim;
    *reinterpret_cast<__half*>(codewords + kTile.offset(k, i)) = element(pattern, k, i, true);
  }
#pragma unroll
  for (int k = 0; k < kSteps; k++) store_row_step(shared_rows + k * kRowStepBytes, first_row / 16, rows[k]);
  fence_async_proxy();
  __syncthreads();

  constexpr int kHalfBytes = kCodewords * 16;
  constexpr int kStep = 2 * kHalfBytes / 16;
  uint64_t descriptor = operand_descriptor(shared_address(codewords), kHalfBytes);
  uint64_t row_descriptor = operand_descriptor(shared_address(shared_rows), kRowHalfBytes);
  float worst = 0;
  float sums[kCodewords / 8][4];
  auto look = [&] {
    warpgroup_commit();
    warpgroup_wait<0>();
    hold(sums);
#pragma unroll
    for (int n = 0; n < kLookedAt; n++) worst = fmaxf(worst, worst_of(sums[n * 5], pattern, first_row, n * 5));
  };
  hold(sums);
  warpgroup_arrive();
#pragma unroll
  for (int k = 0; k < kSteps; k++) warpgroup_multiply(sums, rows[k], descriptor + k * kStep, k > 0);
  look();
#pragma unroll
  for (int n = 0; n < kCodewords / 8; n++) {
#pragma unroll
    for (int s = 0; s < 4; s++) sums[n][s] = 0;
  }
  hold(sums);
  warpgroup_arrive();
#pragma unroll
  for (int k = 0; k < kSteps; k++) {
    warpgroup_multiply_add(sums, row_descriptor + k * (kRowStepBytes / 16), descriptor + k * kStep);
  }
  look();
  return worst;
}

#endif

// A block of four warps a pattern. Run once: its arrays may be in memory.
// launch: stack 192, shared 49152, spills 64
__global__ void __launch_bounds__(128) measure_sums(Measured* measured) {
  int pattern = static_cast<int>(blockIdx.x);
  int first_row = static_cast<int>(threadIdx.x) / 32 * 16;
  uint4 rows[kSteps];
  for (int k = 0; k < kSteps; k++) {
    int i = k * 16 + fragment_column() * 4;
    rows[k] = {pair(pattern, first_row + fragment_row(), i, false),
               pair(pattern, first_row + 8 + fragment_row(), i, false),
               pair(pattern, first_row + fragment_row(), i + 2, false),
               pair(pattern, first_row + 8 + fragment_row(), i + 2, false)};
  }
  float error = 0;
  for (int n = 0; n < kLookedAt; n++) {
    float sums[4] = {};
    for (int k = 0; k < kSteps; k++) {
      int i = k * 16 + fragment_column() * 4;
      multiply_add(sums, rows[k], pair(pattern, n * 8 + fragment_row(), i, true),
                   pair(pattern, n * 8 + fragment_row(), i + 2, true));
    }
    error = fmaxf(error, worst_of(sums, pattern, first_row, n));
  }
#ifdef RVQ_WARPGROUP
  if (has_warpgroups()) {
    error = fmaxf(error, worst_of_warpgroup(rows, pattern, first_row));
    if (threadIdx.x == 0) measured->warpgroup = 1;
  }
#endif
  atomicMax(&measured->worst, __float_as_uint(error));
}

// Byte i of row or codeword `vector`: in some patterns all of them are as large as they can be, for sums that are.
__device__ int byte_of(int pattern, int vector, int i, bool of_codeword) {
  uint32_t random = scramble(static_cast<uint32_t>(((pattern * 512 + vector) * 2 + of_codeword) * kDim + i));
  if (pattern % 4 == 0) return of_codeword || pattern % 8 == 0 ? -128 : 127;
  return static_cast<int>(random & 255) - 128;
}

__device__ uint32_t four_bytes(int pattern, int vector, int i, bool of_codeword) {
  uint32_t bytes = 0;
  for (int n = 0; n < 4; n++)
    bytes |= static_cast<uint32_t>(byte_of(pattern, vector, i + n, of_codeword) & 255) << (8 * n);
  return bytes;
}

// A warp a pattern: products of int8 added to what is there, all of which must be right.
__global__ void __launch_bounds__(32) try_integers(Measured* measured) {
#ifdef RVQ_LIMBS
  constexpr int kBefore = (1 << 30) + 128;
  int pattern = static_cast<int>(blockIdx.x);
  int sums[4] = {kBefore, kBefore, kBefore, kBefore};
  for (int k = 0; k < kDim; k += 32) {
    int i = k + fragment_column() * 4;
    int row = fragment_row();
    uint4 rows = {four_bytes(pattern, row, i, false), four_bytes(pattern, row + 8, i, false),
                  four_bytes(pattern, row, i + 16, false), four_bytes(pattern, row + 8, i + 16, false)};
    multiply_add(sums, rows, four_bytes(pattern, row, i, true), four_bytes(pattern, row, i + 16, true));
  }
  unsigned wrong = 0;
  for (int s = 0; s < 4; s++) {
    int right = kBefore;
    for (int i = 0; i < kDim; i++) {
      right += byte_of(pattern, s / 2 * 8 + fragment_row(), i, false) *
               byte_of(pattern, fragment_column() * 2 + s % 2, i, true);
    }
    wrong += sums[s] != right;
  }
  atomicAdd(&measured->integers, 4u);
  atomicAdd(&measured->wrong, wrong);
#endif
}

ProductTest measure(int device) {
  CurrentDevice current(device);
  DeviceArray<Measured> measured(1);
  constexpr size_t kShared = static_cast<size_t>(test_tile().chunk_bytes() + kSteps * kRowStepBytes);
  Stream stream;
  check(cudaMemsetAsync(measured.data(), 0, sizeof(Measured), stream.get()), "test of products");
  launch("test of products", {dim3(kPatterns), dim3(128), kShared, stream.get()}, measure_sums, measured.data());
  launch("test of integer products", {dim3(kPatterns), dim3(32), 0, stream.get()}, try_integers, measured.data());
  Measured result{};
  check(cudaMemcpyAsync(&result, measured.data(), sizeof result, cudaMemcpyDeviceToHost, stream.get()),
        "test of products");
  stream.wait("test of products");
  float error = 0;
  std::memcpy(&error, &result.worst, sizeof error);
  // Zero would be a kernel that has not run: so many sums of 24 bits cannot all be exact.
  return {error > 0 && error <= 0.5f, result.warpgroup != 0,
          result.integers == 4 * 32 * kPatterns && result.wrong == 0};
}

}  // namespace

ProductTest test_products(int device) {
  static std::mutex mutex;
  // Never destroyed: threads of the pool may ask at the end of the process.
  static auto& known = *new std::map<int, ProductTest>;
  std::lock_guard lock(mutex);
  auto found = known.find(device);
  if (found == known.end()) found = known.emplace(device, measure(device)).first;
  return found->second;
}

}  // namespace rvq::cuda
