// How fast a Hopper device can stream codewords past rows, in the forms that the search could have: the pieces of a
// stage from memory, or the second-level cache, to the shared memory of every multiprocessor, or once for a cluster of
// two or four that share them; products with 64 rows a warpgroup, of which nothing is kept; and beside them what a stage
// reads and writes of rows, in device memory, or none of it, as if residuals were in shared memory.
//
//   nvcc -std=c++17 -O3 -arch=sm_90a -Icuda bench/cuda/stream_rates.cu -o stream_rates && ./stream_rates

#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include <algorithm>
#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <vector>

#include "stage.cuh"
#include "wgmma.cuh"

using namespace rvq::cuda;

namespace {

void check(cudaError_t status) {
  if (status == cudaSuccess) return;
  std::fprintf(stderr, "stream_rates: %s\n", cudaGetErrorString(status));
  std::exit(1);
}

constexpr int kTurns = 5;
constexpr int kMostShared = 220 << 10;

// A tile of codewords comes in pieces of so many steps of sixteen dimensions; rows' operands of the first steps are in
// registers, the others in shared memory, as in the search.
struct Resident {
  static constexpr int kGroups = 8;  // of eight codewords
  static constexpr int kWarpgroups = 3;
};
struct EnCodec : Resident {
  static constexpr const char* kName = "D 128, K 1024, 8 stages";
  static constexpr int kDim = 128, kCodewords = 1024, kStages = 8;
  static constexpr int kTileSteps = 9, kPieceSteps = 9, kRegisterSteps = 9;
};
struct Mimi : Resident {
  static constexpr const char* kName = "D 256, K 2048, 8 stages";
  static constexpr int kDim = 256, kCodewords = 2048, kStages = 8;
  static constexpr int kTileSteps = 17, kPieceSteps = 17, kRegisterSteps = 17;
};
struct Wide {
  static constexpr const char* kName = "D 768, K 65,536, 1 stage";
  static constexpr int kGroups = 16;
  static constexpr int kWarpgroups = 2;
  static constexpr int kDim = 768, kCodewords = 65536, kStages = 1;
  static constexpr int kTileSteps = 50, kPieceSteps = 2, kRegisterSteps = kWideRegisterSteps;
};

template <typename Form>
struct Sizes {
  static constexpr int kPieceBytes = Form::kPieceSteps * Form::kGroups * 8 * 32;
  static constexpr int kPiecesInTile = Form::kTileSteps / Form::kPieceSteps;
  static constexpr int kPieces = Form::kStages * Form::kCodewords / (8 * Form::kGroups) * kPiecesInTile;
  static constexpr int kRowBytes = (Form::kTileSteps - Form::kRegisterSteps) * kRowStepBytes;  // of a warpgroup
  static constexpr int kDepth =
      std::min(24, (kMostShared - 1024 - Form::kWarpgroups * kRowBytes) / (kPieceBytes + 16));
  static constexpr int kShared = Form::kWarpgroups * kRowBytes + kDepth * (kPieceBytes + 16);
  static constexpr int kRows = Form::kWarpgroups * 64;
  static_assert(Form::kTileSteps % Form::kPieceSteps == 0 && Form::kRegisterSteps % Form::kPieceSteps == 0);
};

struct Parameters {
  const unsigned char* packed;  // the pieces of all stages
  const float4* codewords;      // [kCodewords][kDim / 4]
  float4* rows;                 // [passes · blocks · kRows][kDim / 4]; null: rows are left alone
  int passes;                   // of all stages, by every block
};

#ifdef RVQ_WARPGROUP

__device__ __forceinline__ uint32_t rank_in_cluster() {
  uint32_t rank;
  asm("mov.u32 %0, %%cluster_ctarank;\n" : "=r"(rank));
  return rank;
}

__device__ __forceinline__ void meet_cluster() {
  asm volatile("barrier.cluster.arrive.release.aligned;\nbarrier.cluster.wait.acquire.aligned;\n" ::: "memory");
}

// At the same place in the shared memory of a block of the cluster.
__device__ __forceinline__ void arrive_at(uint32_t barrier, uint32_t block) {
  asm volatile(
      "{\n.reg .b32 there;\nmapa.shared::cluster.u32 there, %0, %1;\n"
      "mbarrier.arrive.release.cluster.shared::cluster.b64 _, [there];\n}\n" ::"r"(barrier),
      "r"(block)
      : "memory");
}

__device__ __forceinline__ void wait_for_cluster(uint32_t barrier, uint32_t phase) {
  uint32_t complete = 0;
  while (complete == 0) {
    asm volatile(
        "{\n.reg .pred p;\nmbarrier.try_wait.parity.acquire.cluster.shared::cta.b64 p, [%1], %2;\n"
        "selp.b32 %0, 1, 0, p;\n}\n"
        : "=r"(complete)
        : "r"(barrier), "r"(phase)
        : "memory");
  }
}

__device__ __forceinline__ void expect_bytes(uint32_t barrier, uint32_t bytes) {
  asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;\n" ::"r"(barrier), "r"(bytes) : "memory");
}

// To the same place in every block of the cluster, whose barriers there count the bytes.
__device__ __forceinline__ void copy_to_cluster(uint32_t shared, const void* global, uint32_t bytes, uint32_t barrier,
                                                uint16_t blocks) {
  asm volatile(
      "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes.multicast::cluster [%0], [%1], %2, [%3], "
      "%4;\n" ::"r"(shared),
      "l"(global), "r"(bytes), "r"(barrier), "h"(blocks)
      : "memory");
}

#endif

// Warps of products, and one more whose first thread has the ring filled.
template <typename Form, int kCluster>
__global__ void __launch_bounds__(Form::kWarpgroups * 128 + 32) stream(Parameters parameters, int* sum_of_all) {
#ifdef RVQ_WARPGROUP
  using Size = Sizes<Form>;
  extern __shared__ __align__(128) unsigned char shared[];
  constexpr int kWarps = Form::kWarpgroups * 4;
  const uint32_t pieces = shared_address(shared) + Form::kWarpgroups * Size::kRowBytes;
  const uint32_t full = pieces + Size::kDepth * Size::kPieceBytes;
  const uint32_t released = full + Size::kDepth * 8;
  const int warp = static_cast<int>(threadIdx.x) / 32;
  const int lane = static_cast<int>(threadIdx.x) % 32;
  if (threadIdx.x == 0) {
    for (int i = 0; i < Size::kDepth; i++) {
      init_barrier(full + i * 8, 1);
      init_barrier(released + i * 8, kWarps * kCluster);
    }
  }
  for (int i = static_cast<int>(threadIdx.x); i < Form::kWarpgroups * Size::kRowBytes / 16;
       i += static_cast<int>(blockDim.x)) {
    reinterpret_cast<uint4*>(shared)[i] = reinterpret_cast<const uint4*>(parameters.packed)[i];
  }
  fence_async_proxy();
  meet_cluster();
  int slot = 0;
  uint32_t phase = 0;
  auto advance = [&] {
    if (++slot < Size::kDepth) return;
    slot = 0;
    phase ^= 1;
  };
  if (warp == kWarps) {
    constexpr int kPart = Size::kPieceBytes / kCluster;
    static_assert(kPart % 16 == 0);
    const uint32_t part = rank_in_cluster() * kPart;
    const int count = parameters.passes * Size::kPieces;
    for (int i = 0, next = 0; i < count && lane == 0; i++, advance()) {
      if (i >= Size::kDepth) wait_for_cluster(released + slot * 8, phase ^ 1);
      const unsigned char* from = parameters.packed + static_cast<size_t>(next) * Size::kPieceBytes + part;
      uint32_t to = pieces + slot * Size::kPieceBytes + part;
      if constexpr (kCluster == 1) {
        copy_bulk(to, from, kPart, full + slot * 8);
      } else {
        expect_bytes(full + slot * 8, Size::kPieceBytes);
        copy_to_cluster(to, from, kPart, full + slot * 8, (1 << kCluster) - 1);
      }
      if (++next == Size::kPieces) next = 0;
    }
    // No block ends while others write to its memory.
    __syncwarp();
    meet_cluster();
    return;
  }
  uint4 operands[Form::kRegisterSteps];
#pragma unroll
  for (int k = 0; k < Form::kRegisterSteps; k++) {
    operands[k] = reinterpret_cast<const uint4*>(parameters.packed)[threadIdx.x * Form::kRegisterSteps + k];
  }
  [[maybe_unused]] uint64_t shared_rows =
      operand_descriptor(shared_address(shared) + warp / 4 * Size::kRowBytes, kRowHalfBytes);
  // Of two tiles in turn where registers last, as in the search: products of one are under way while those of the next
  // begin.
  constexpr bool kAhead = Form::kTileSteps == Form::kPieceSteps && Form::kTileSteps <= 12;
  float sums[kAhead ? 2 : 1][Form::kGroups][4] = {};
  auto release = [&](int place) {
    if (lane < kCluster) arrive_at(released + place * 8, lane);
  };
  constexpr int kTiles = Form::kCodewords / (8 * Form::kGroups);
  for (int pass = 0; pass < parameters.passes; pass++) {
    for (int s = 0; s < Form::kStages; s++) {
      if (parameters.rows != nullptr) {
        // A warp's sixteen rows, less codewords that are anywhere.
        constexpr int kRowQuarters = Form::kDim / 4;
        size_t first = (static_cast<size_t>(pass) * gridDim.x + blockIdx.x) * Size::kRows + warp * 16;
#pragma unroll 8
        for (int i = 0; i < 16 * kRowQuarters / 32; i++) {
          int row = i * 32 / kRowQuarters;
          int quarter = i * 32 % kRowQuarters + lane;
          auto code = static_cast<uint32_t>(first + row) * 2654435761u + static_cast<uint32_t>(s) * 40503u;
          float4& x = parameters.rows[(first + row) * kRowQuarters + quarter];
          float4 codeword = parameters.codewords[(code >> 12) % Form::kCodewords * kRowQuarters + quarter];
          x = {x.x - codeword.x, x.y - codeword.y, x.z - codeword.z, x.w - codeword.w};
        }
      }
      int before = -1;
      auto multiply = [&](auto& tile, int k) {
        wait_for_phase(full + slot * 8, phase);
        uint64_t codewords = operand_descriptor(pieces + slot * Size::kPieceBytes, Form::kGroups * 8 * 16);
        warpgroup_arrive();
#pragma unroll
        for (int i = 0; i < Form::kPieceSteps; i++) {
          uint64_t step = codewords + i * (Form::kGroups * 8 * 32 / 16);
          if (k + i < Form::kRegisterSteps) {
            warpgroup_multiply(tile, operands[(k + i) % Form::kRegisterSteps], step, k + i > 0);
          } else if constexpr (Form::kGroups == 16) {
            warpgroup_multiply_add(tile, shared_rows + (k + i - Form::kRegisterSteps) * (kRowStepBytes / 16), step);
          }
        }
        warpgroup_commit();
        if (before >= 0) {
          warpgroup_wait<1>();
          release(before);
        }
        before = slot;
        advance();
      };
      if constexpr (kAhead) {
        static_assert(kTiles % 2 == 0);
#pragma unroll 1
        for (int tile = 0; tile < kTiles; tile += 2) {
          multiply(sums[0], 0);
          hold(sums[1]);
          multiply(sums[1], 0);
          hold(sums[0]);
        }
        warpgroup_wait<0>();
        hold(sums[1]);
        release(before);
      } else {
#pragma unroll 1
        for (int tile = 0; tile < kTiles; tile++) {
#pragma unroll
          for (int k = 0; k < Form::kRegisterSteps; k += Form::kPieceSteps) multiply(sums[0], k);
#pragma unroll 1
          for (int k = Form::kRegisterSteps; k < Form::kTileSteps; k += Form::kPieceSteps) multiply(sums[0], k);
          warpgroup_wait<0>();
          hold(sums[0]);
          release(before);
          before = -1;
        }
      }
    }
  }
  float all = 0;
  for (auto& tile : sums) {
#pragma unroll
    for (int n = 0; n < Form::kGroups; n++) all += tile[n][0] + tile[n][3];
  }
  if (all == 12345) *sum_of_all = 1;
  meet_cluster();
#endif
}

__global__ void fill(__half* numbers, size_t count) {
  size_t step = static_cast<size_t>(gridDim.x) * blockDim.x;
  for (size_t i = blockIdx.x * blockDim.x + threadIdx.x; i < count; i += step) {
    uint32_t state = (static_cast<uint32_t>(i) * 2654435761u ^ 0x9e3779b9u) * 1664525u + 1013904223u;
    numbers[i] = __float2half(static_cast<float>(state >> 16) / 32768.0f - 1);
  }
}

struct Memory {
  unsigned char* packed = nullptr;
  float4* codewords = nullptr;
  float4* rows = nullptr;
  int* sum = nullptr;
  size_t row_bytes = size_t{1} << 30;
};

template <typename Form, int kCluster>
void measure(const Memory& memory, bool with_rows) {
  using Size = Sizes<Form>;
  constexpr int kThreads = Form::kWarpgroups * 128 + 32;
  auto kernel = stream<Form, kCluster>;
  check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, Size::kShared));
  cudaLaunchAttribute attribute{};
  attribute.id = cudaLaunchAttributeClusterDimension;
  attribute.val.clusterDim = {kCluster, 1, 1};
  cudaLaunchConfig_t config{};
  config.gridDim = dim3(kCluster);
  config.blockDim = dim3(kThreads);
  config.dynamicSmemBytes = Size::kShared;
  config.attrs = &attribute;
  config.numAttrs = 1;
  int clusters = 0;
  check(cudaOccupancyMaxActiveClusters(&clusters, kernel, &config));
  auto blocks = static_cast<unsigned>(clusters * kCluster);
  config.gridDim = dim3(blocks);
  constexpr size_t kWanted = Form::kStages == 1 ? size_t{1} << 16 : size_t{1} << 20;
  size_t rows_a_pass = static_cast<size_t>(blocks) * Size::kRows;
  size_t most = std::min(kWanted, memory.row_bytes / (Form::kDim * sizeof(float)));
  Parameters parameters{memory.packed, memory.codewords, with_rows ? memory.rows : nullptr,
                        static_cast<int>(std::max<size_t>(1, most / rows_a_pass))};
  cudaEvent_t begin;
  cudaEvent_t end;
  check(cudaEventCreate(&begin));
  check(cudaEventCreate(&end));
  std::vector<float> times;
  for (int turn = 0; turn < kTurns; turn++) {
    float ms = 0;
    check(cudaEventRecord(begin));
    check(cudaLaunchKernelEx(&config, kernel, parameters, memory.sum));
    check(cudaEventRecord(end));
    check(cudaEventSynchronize(end));
    check(cudaEventElapsedTime(&ms, begin, end));
    times.push_back(ms);
  }
  std::sort(times.begin(), times.end());
  double seconds = times[kTurns / 2] / 1e3;
  double rows = static_cast<double>(rows_a_pass) * parameters.passes;
  double flops = 2.0 * rows * Form::kDim * Form::kCodewords * Form::kStages;
  double piece_bytes = static_cast<double>(blocks) / kCluster * parameters.passes * Size::kPieces * Size::kPieceBytes;
  double row_bytes = with_rows ? rows * Form::kStages * Form::kDim * 12 : 0;
  std::printf("| %s | %d | %u | %s | %.2f | %.0f | %.0f | %.0f |\n", Form::kName, kCluster, blocks,
              with_rows ? "yes" : "no", 1e3 * seconds * kWanted / rows, flops / (1e12 * seconds),
              piece_bytes / (1e9 * seconds), row_bytes / (1e9 * seconds));
}

template <typename Form>
void measure_all(const Memory& memory) {
  for (bool with_rows : {false, true}) {
    measure<Form, 1>(memory, with_rows);
    measure<Form, 2>(memory, with_rows);
    measure<Form, 4>(memory, with_rows);
  }
}

}  // namespace

int main() {
  cudaDeviceProp properties;
  check(cudaGetDeviceProperties(&properties, 0));
  if (properties.major != 9) {
    std::puts("stream_rates: skipped, no Hopper device");
    return 0;
  }
  Memory memory;
  constexpr size_t kPackedBytes = static_cast<size_t>(Sizes<Wide>::kPieces) * Sizes<Wide>::kPieceBytes;
  static_assert(kPackedBytes >= static_cast<size_t>(Sizes<Mimi>::kPieces) * Sizes<Mimi>::kPieceBytes);
  constexpr size_t kCodewordBytes = static_cast<size_t>(Wide::kCodewords) * Wide::kDim * sizeof(float);
  check(cudaMalloc(&memory.packed, kPackedBytes));
  check(cudaMalloc(&memory.codewords, kCodewordBytes));
  check(cudaMalloc(&memory.rows, memory.row_bytes));
  check(cudaMalloc(&memory.sum, sizeof(int)));
  fill<<<1024, 256>>>(reinterpret_cast<__half*>(memory.packed), kPackedBytes / sizeof(__half));
  check(cudaGetLastError());
  check(cudaMemset(memory.codewords, 0, kCodewordBytes));
  check(cudaMemset(memory.rows, 0, memory.row_bytes));
  std::puts("| shape | blocks that share | blocks | rows | ms of all rows | TFLOP/s | GB/s of pieces | GB/s of rows |");
  std::puts("| --- | --- | --- | --- | --- | --- | --- | --- |");
  measure_all<EnCodec>(memory);
  measure_all<Mimi>(memory);
  measure_all<Wide>(memory);
}
