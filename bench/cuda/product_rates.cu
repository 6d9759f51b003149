// What wgmma reaches on a Hopper device in the forms that the search could have: 64 rows from registers, or shared
// memory, times 64 or 128 codewords in shared memory, which lie there in one of four layouts; the products of a piece
// waited for or one piece ahead, ranked or not; the bounds by a step of products or in the sums before them; by one to
// four warpgroups a multiprocessor, on zeros and on random numbers. Clocks are the multiprocessor's own: with the time
// they give its frequency under that load.
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

constexpr int kPieces = 4000;
constexpr int kInRing = 4;

void check(cudaError_t status) {
  if (status == cudaSuccess) return;
  std::fprintf(stderr, "product_rates: %s\n", cudaGetErrorString(status));
  std::exit(1);
}

// How operands lie in shared memory: core matrices one after the other, as in the search, or rows of so many bytes, whose
// pieces of sixteen are swizzled. Numbers are those of descriptors.
enum class Swizzle : uint64_t { kNone = 0, k128 = 1, k64 = 2, k32 = 3 };

// 64 codewords, as in the search.
struct Plain {
  static constexpr int kGroups = 8;  // of eight codewords
  static constexpr bool kAhead = false;
  static constexpr bool kRanked = false;
  static constexpr Swizzle kSwizzle = Swizzle::kNone;
  static constexpr bool kSharedRows = false;
  static constexpr bool kStarts = false;  // the sums start from bounds
};
struct Ranked : Plain {
  static constexpr bool kRanked = true;
};
struct Ahead : Plain {
  static constexpr bool kAhead = true;
};
struct RankedAhead : Ahead {
  static constexpr bool kRanked = true;
};
struct RankedAheadFromStarts : RankedAhead {
  static constexpr bool kStarts = true;
};
template <Swizzle kLayout>
struct Swizzled : Plain {
  static constexpr Swizzle kSwizzle = kLayout;
};
struct Twice : Plain {
  static constexpr int kGroups = 16;
};
template <Swizzle kLayout>
struct TwiceSwizzled : Twice {
  static constexpr Swizzle kSwizzle = kLayout;
};
struct TwiceFromShared : Twice {
  static constexpr bool kSharedRows = true;
};
struct TwiceFromSharedSwizzled : TwiceFromShared {
  static constexpr Swizzle kSwizzle = Swizzle::k128;
};

// EnCodec's eight steps, and one that has the bounds.
template <typename Form>
constexpr int kSteps = Form::kStarts ? 8 : 9;

template <typename Form>
constexpr int kRowBytes = Form::kSwizzle == Swizzle::k128 ? 128 : Form::kSwizzle == Swizzle::k64 ? 64 : 32;

// Of so many rows or codewords.
template <typename Form>
__host__ __device__ constexpr int operand_bytes(int rows) {
  return (kSteps<Form> * 32 + kRowBytes<Form> - 1) / kRowBytes<Form> * kRowBytes<Form> * rows;
}

template <typename Form>
__host__ __device__ constexpr int shared_bytes(int warpgroups) {
  return kInRing * operand_bytes<Form>(8 * Form::kGroups) +
         (Form::kSharedRows ? warpgroups * operand_bytes<Form>(64) : 0);
}

#ifdef RVQ_WARPGROUP

// The descriptor of a step of so many rows or codewords from `shared` on.
template <typename Form>
__device__ __forceinline__ uint64_t descriptor(uint32_t shared, int rows, int step) {
  if constexpr (Form::kSwizzle == Swizzle::kNone) {
    return operand_descriptor(shared, rows * 16) + step * (rows * 32 / 16);
  } else {
    constexpr int kStepsInRow = kRowBytes<Form> / 32;
    constexpr uint64_t kGroupBytes = 8 * kRowBytes<Form>;
    int offset = step / kStepsInRow * rows * kRowBytes<Form> + step % kStepsInRow * 32;
    uint64_t first = (shared & 0x3ffff) >> 4 | kGroupBytes >> 4 << 32 | static_cast<uint64_t>(Form::kSwizzle) << 62;
    return first + offset / 16;
  }
}

#endif

template <typename Form>
__global__ void __launch_bounds__(Form::kAhead ? 384 : 512)
    multiply(const uint4* numbers, int pieces, long long* clocks, int* kept_of_all) {
#ifdef RVQ_WARPGROUP
  extern __shared__ __align__(1024) unsigned char shared[];
  constexpr int kPieceBytes = operand_bytes<Form>(8 * Form::kGroups);
  auto words = reinterpret_cast<uint4*>(shared);
  int filled = shared_bytes<Form>(static_cast<int>(blockDim.x) / 128) / 16;
  for (int i = static_cast<int>(threadIdx.x); i < filled; i += static_cast<int>(blockDim.x)) {
    words[i] = numbers[i % 4096];
  }
  uint4 operands[kSteps<Form>];
#pragma unroll
  for (int k = 0; k < kSteps<Form>; k++) operands[k] = numbers[(threadIdx.x * kSteps<Form> + k) % 4096];
  const float radius = __half2float(__low2half(*reinterpret_cast<__half2*>(&operands[0].x)));
  fence_async_proxy();
  __syncthreads();
  uint32_t first = shared_address(shared);
  [[maybe_unused]] uint32_t rows =
      first + kInRing * kPieceBytes + threadIdx.x / 128 * static_cast<uint32_t>(operand_bytes<Form>(64));
  KeptPieces kept[2] = {};
  PieceRanking ranking(8);
  using Sums = float[Form::kGroups][4];
  Sums sums;
  auto begin = [&](Sums& s, int piece) {
    uint32_t codewords = first + piece % kInRing * kPieceBytes;
    if constexpr (Form::kStarts) {
      // Two codewords' starts and slopes, where bounds would lie.
      auto bounds = reinterpret_cast<const float4*>(shared + piece % kInRing * kPieceBytes) + threadIdx.x % 4;
#pragma unroll
      for (int n = 0; n < Form::kGroups; n++) {
        float4 bound = bounds[4 * n];
        s[n][0] = fmaf(radius, bound.y, bound.x);
        s[n][1] = fmaf(radius, bound.w, bound.z);
        s[n][2] = fmaf(-radius, bound.y, bound.x);
        s[n][3] = fmaf(-radius, bound.w, bound.z);
      }
    }
    hold(s);
    warpgroup_arrive();
#pragma unroll
    for (int k = 0; k < kSteps<Form>; k++) {
      uint64_t b = descriptor<Form>(codewords, 8 * Form::kGroups, k);
      if constexpr (Form::kSharedRows) {
        warpgroup_multiply_add(s, descriptor<Form>(rows, 64, k), b);
      } else {
        warpgroup_multiply(s, operands[k], b, Form::kStarts || k > 0);
      }
    }
    warpgroup_commit();
  };
  auto use = [&](Sums& s, int piece) {
    hold(s);
    if constexpr (Form::kRanked) {
      for (int half = 0; half < 2; half++) kept[half].take(s, half, piece & 255, ranking, 0.25f);
    } else {
      kept[0].groups[0] ^= __float_as_int(s[0][0]);
    }
  };
  // What is not overwritten is to be some number.
#pragma unroll
  for (int n = 0; n < Form::kGroups; n++) sums[n][0] = sums[n][1] = sums[n][2] = sums[n][3] = 0;
  long long start = clock64();
  begin(sums, 0);
  if constexpr (Form::kAhead) {
    Sums others;
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
  size_t most_shared = 0;  // of a block
  uint4* numbers = nullptr;
  long long* clocks = nullptr;
  int* kept = nullptr;
};

template <typename Form>
void measure(const Device& device, const char* form, const char* data, int warpgroups) {
  int bytes = shared_bytes<Form>(warpgroups);
  if (static_cast<size_t>(bytes) > device.most_shared) {
    std::printf("| %s | %d | %s | %d | too much shared memory | | | |\n", form, 8 * Form::kGroups, data, warpgroups);
    return;
  }
  auto kernel = multiply<Form>;
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
  double pieces = static_cast<double>(kPieces) * warpgroups * (Form::kGroups / 8.0);
  double flops = 2.0 * 64 * 64 * 16 * kSteps<Form> * pieces * device.multiprocessors;
  std::printf("| %s | %d | %s | %d | %.0f | %.1f | %.0f | %.0f |\n", form, 8 * Form::kGroups, data, warpgroups,
              static_cast<double>(clocks) / pieces, static_cast<double>(clocks) / (pieces * kSteps<Form>),
              flops / (1e9 * ms), static_cast<double>(clocks) / (1e3 * ms));
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
  device.most_shared = properties.sharedMemPerBlockOptin;
  check(cudaMalloc(&device.numbers, 4096 * sizeof(uint4)));
  check(cudaMalloc(&device.clocks, 1024 * sizeof(long long)));
  check(cudaMalloc(&device.kept, sizeof(int)));
  std::puts("| form | codewords | data | warpgroups | clocks for 64 codewords | a product of them | TFLOP/s | MHz |");
  std::puts("| --- | --- | --- | --- | --- | --- | --- | --- |");
  for (const char* data : {"zeros", "random"}) {
    std::vector<__half> numbers(4096 * 8);
    uint32_t state = 1;
    for (__half& x : numbers) {
      state = state * 1664525 + 1013904223;
      x = __float2half(*data == 'z' ? 0.0f : static_cast<float>(state >> 16) / 32768.0f - 1);
    }
    check(cudaMemcpy(device.numbers, numbers.data(), 4096 * sizeof(uint4), cudaMemcpyHostToDevice));
    for (int warpgroups = 1; warpgroups <= 4; warpgroups++) {
      measure<Plain>(device, "waited for", data, warpgroups);
      measure<Ranked>(device, "waited for, ranked", data, warpgroups);
      measure<Swizzled<Swizzle::k32>>(device, "waited for, rows of 32 bytes", data, warpgroups);
      measure<Swizzled<Swizzle::k64>>(device, "waited for, rows of 64 bytes", data, warpgroups);
      measure<Swizzled<Swizzle::k128>>(device, "waited for, rows of 128 bytes", data, warpgroups);
      measure<Twice>(device, "waited for", data, warpgroups);
      measure<TwiceSwizzled<Swizzle::k32>>(device, "waited for, rows of 32 bytes", data, warpgroups);
      measure<TwiceSwizzled<Swizzle::k128>>(device, "waited for, rows of 128 bytes", data, warpgroups);
      measure<TwiceFromShared>(device, "waited for, all from shared memory", data, warpgroups);
      measure<TwiceFromSharedSwizzled>(device, "waited for, all from shared memory in rows of 128 bytes", data, warpgroups);
      if (warpgroups == 4) continue;
      measure<Ahead>(device, "one ahead", data, warpgroups);
      measure<RankedAhead>(device, "one ahead, ranked", data, warpgroups);
      measure<RankedAheadFromStarts>(device, "one ahead, ranked, from starts", data, warpgroups);
    }
  }
}
