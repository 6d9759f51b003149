// What wgmma reaches on a Hopper device in the forms that the search could have: 64 rows from registers times 64 or 128
// codewords in shared memory, the products of a piece waited for or one piece ahead, ranked or not, by one to four
// warpgroups a multiprocessor, on zeros and on random numbers. Clocks are the multiprocessor's own: with the time they
// give its frequency under that load.
//
//   nvcc -std=c++17 -O3 -arch=sm_90a -Icuda bench/cuda/product_rates.cu -o product_rates && ./product_rates

#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include <cstdio>
#include <cstdlib>
#include <vector>

#include "piece_ranking.cuh"
#include "stage.cuh"
#include "wgmma.cuh"

using namespace rvq::cuda;

namespace {

constexpr int kSteps = 9;  // EnCodec's eight, and that with the bounds
constexpr int kPieces = 4000;
constexpr int kInRing = 4;

void check(cudaError_t status) {
  if (status == cudaSuccess) return;
  std::fprintf(stderr, "product_rates: %s\n", cudaGetErrorString(status));
  std::exit(1);
}

template <int kGroups, bool kAhead, bool kRanked>
__global__ void __launch_bounds__(kAhead ? 384 : 512)
    multiply(const uint4* numbers, int pieces, long long* clocks, int* kept_of_all) {
#ifdef RVQ_WARPGROUP
  extern __shared__ __align__(128) unsigned char shared[];
  constexpr int kPieceBytes = kGroups * 8 * kSteps * 32;
  constexpr int kHalfBytes = kGroups * 8 * 16;
  constexpr int kStep = 2 * kHalfBytes / 16;
  auto words = reinterpret_cast<uint4*>(shared);
  for (int i = static_cast<int>(threadIdx.x); i < kInRing * kPieceBytes / 16; i += static_cast<int>(blockDim.x)) {
    words[i] = numbers[i % 4096];
  }
  uint4 operands[kSteps];
#pragma unroll
  for (int k = 0; k < kSteps; k++) operands[k] = numbers[(threadIdx.x * kSteps + k) % 4096];
  fence_async_proxy();
  __syncthreads();
  uint32_t first = shared_address(shared);
  KeptPieces kept[2] = {};
  PieceRanking ranking(8);
  float sums[kGroups][4];
  auto begin = [&](float(&s)[kGroups][4], int piece) {
    uint64_t codewords = operand_descriptor(first + piece % kInRing * kPieceBytes, kHalfBytes);
    hold(s);
    warpgroup_arrive();
#pragma unroll
    for (int k = 0; k < kSteps; k++) warpgroup_multiply(s, operands[k], codewords + k * kStep, k > 0);
    warpgroup_commit();
  };
  auto use = [&](float(&s)[kGroups][4], int piece) {
    hold(s);
    if constexpr (kRanked) {
      for (int half = 0; half < 2; half++) kept[half].take(s, half, piece & 255, ranking, 0.25f);
    } else {
      kept[0].groups[0] ^= __float_as_int(s[0][0]);
    }
  };
  long long start = clock64();
  begin(sums, 0);
  if constexpr (kAhead) {
    float others[kGroups][4];
#pragma unroll 1
    for (int piece = 0;; piece += 2) {
      if (piece + 1 == pieces) {
        warpgroup_wait<0>();
        use(sums, piece);
        break;
      }
      begin(others, piece + 1);
      warpgroup_wait<1>();
      use(sums, piece);
      if (piece + 2 == pieces) {
        warpgroup_wait<0>();
        use(others, piece + 1);
        break;
      }
      begin(sums, piece + 2);
      warpgroup_wait<1>();
      use(others, piece + 1);
    }
  } else {
#pragma unroll 1
    for (int piece = 0;; piece++) {
      warpgroup_wait<0>();
      use(sums, piece);
      if (piece + 1 == pieces) break;
      begin(sums, piece + 1);
    }
  }
  __syncthreads();
  if (threadIdx.x == 0) clocks[blockIdx.x] = clock64() - start;
  int all = 0;
  for (const KeptPieces& some : kept) all ^= some.groups[0] ^ some.members[1] ^ some.pieces[0] ^ some.pieces[2];
  if (all == 12345) *kept_of_all = all;
#endif
}

struct Device {
  int multiprocessors = 0;
  uint4* numbers = nullptr;
  long long* clocks = nullptr;
  int* kept = nullptr;
};

template <int kGroups, bool kAhead, bool kRanked>
void measure(const Device& device, const char* form, const char* data, int warpgroups) {
  int bytes = kInRing * kGroups * 8 * kSteps * 32;
  auto kernel = multiply<kGroups, kAhead, kRanked>;
  check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes));
  cudaEvent_t begin;
  cudaEvent_t end;
  check(cudaEventCreate(&begin));
  check(cudaEventCreate(&end));
  float ms = 0;
  for (int turn = 0; turn < 3; turn++) {
    check(cudaEventRecord(begin));
    kernel<<<device.multiprocessors, 128 * warpgroups, bytes>>>(device.numbers, kPieces, device.clocks, device.kept);
    check(cudaEventRecord(end));
    check(cudaEventSynchronize(end));
    check(cudaEventElapsedTime(&ms, begin, end));
  }
  check(cudaGetLastError());
  long long clocks = 0;
  check(cudaMemcpy(&clocks, device.clocks, sizeof clocks, cudaMemcpyDeviceToHost));
  double products = static_cast<double>(kPieces) * kSteps * warpgroups;
  double flops = 2.0 * 64 * 8 * kGroups * 16 * products * device.multiprocessors;
  std::printf("| %s | %d | %s | %d | %.1f | %.0f | %.0f |\n", form, 8 * kGroups, data, warpgroups,
              static_cast<double>(clocks) / products / (kGroups / 8.0), flops / (1e9 * ms),
              static_cast<double>(clocks) / (1e3 * ms));
}

}  // namespace

int main() {
  Device device;
  cudaDeviceProp properties;
  check(cudaGetDeviceProperties(&properties, 0));
  if (properties.major != 9) {
    std::puts("product_rates: skipped, no Hopper device");
    return 0;
  }
  device.multiprocessors = properties.multiProcessorCount;
  check(cudaMalloc(&device.numbers, 4096 * sizeof(uint4)));
  check(cudaMalloc(&device.clocks, 1024 * sizeof(long long)));
  check(cudaMalloc(&device.kept, sizeof(int)));
  std::puts("| form | codewords | data | warpgroups | clocks a product of 64 codewords | TFLOP/s | MHz |");
  std::puts("| --- | --- | --- | --- | --- | --- | --- |");
  for (const char* data : {"zeros", "random"}) {
    std::vector<__half> numbers(4096 * 8);
    uint32_t state = 1;
    for (__half& x : numbers) {
      state = state * 1664525 + 1013904223;
      x = __float2half(*data == 'z' ? 0.0f : static_cast<float>(state >> 16) / 32768.0f - 1);
    }
    check(cudaMemcpy(device.numbers, numbers.data(), 4096 * sizeof(uint4), cudaMemcpyHostToDevice));
    for (int warpgroups = 1; warpgroups <= 4; warpgroups++) {
      measure<8, false, false>(device, "waited for", data, warpgroups);
      measure<8, false, true>(device, "waited for, ranked", data, warpgroups);
      measure<16, false, false>(device, "waited for", data, warpgroups);
      if (warpgroups == 4) continue;
      measure<8, true, false>(device, "one ahead", data, warpgroups);
      measure<8, true, true>(device, "one ahead, ranked", data, warpgroups);
    }
  }
}
