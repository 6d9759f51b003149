// Chooses and launches the encode kernel for codebooks and rows.

#include "search.h"

#include <algorithm>
#include <map>
#include <mutex>

#include "array_layout.h"
#include "bulk_stream.cuh"
#include "encode_kernel.cuh"
#include "failure.h"
#include "launch.cuh"
#include "split_search.h"
#include "stage.cuh"
#include "unit_rows.h"
#include "unit_stream.cuh"

namespace rvq::cuda {

namespace {

// Pieces of codewords in the ring of the warpgroup kernel: as many as fit, up to where more would bring nothing.
constexpr int kMostRing = 24;
constexpr int kRingBytes = 199 << 10;
__host__ __device__ constexpr int ring_depth(int bytes) {
  return kRingBytes / bytes < kMostRing ? kRingBytes / bytes : kMostRing;
}

constexpr int kNearViews = 32;

// What a block can have; and of it, where operands of rows are there too, all but the codes and what is open.
constexpr int kMostShared = 227 << 10;
constexpr int kWideShared = kMostShared - (5 << 10);
using WideRing = BulkRing<wide_tile(0).chunk_bytes(), kMostRing>;

// Dynamic shared memory as `measure_fit` gives it, by engine, steps and layout; on sm_75 two blocks do not always fit.
// What is spilled is of the stages' ends: the loops that multiply and rank have none of it but for <1, 16, 0>.
// launch <0, 0, *> on 75: shared 2 * 8192, stack 72, spills 384
// launch <0, 0, *>: shared 3 * 8192, stack 56, spills 340
// launch <0, 1, *> on 75: shared 2 * 10240, stack 8, spills 16
// launch <0, 1, *>: shared 3 * 10240, stack 8, spills 20
// launch <0, 2, *> on 75: blocks 1, shared 2 * 18432, stack 16, spills 64
// launch <0, 2, *> on 86 89 120: shared 2 * 18432
// launch <0, 2, *>: shared 3 * 18432, stack 16, spills 64
// launch <0, 4, *> on 75: blocks 1, shared 2 * 17408, stack 32, spills 204
// launch <0, 4, *> on 86 89: shared 2 * 17408, stack 24, spills 120
// launch <0, 4, *> on 120: shared 2 * 17408, stack 144, spills 432
// launch <0, 4, *>: shared 3 * 17408, stack 128, spills 472
// launch <0, 6, *> on 75: shared 2 * 12800, stack 40, spills 204
// launch <0, 6, *> on 80 86 89: shared 3 * 12800, stack 40, spills 208
// launch <0, 6, *>: shared 3 * 12800, stack 304, spills 752
// launch <0, 8, *> on 75: blocks 1, shared 2 * 16896, stack 104, spills 340
// launch <0, 8, *> on 86 89 120: shared 2 * 16896, stack 112, spills 328
// launch <0, 8, *>: shared 3 * 16896, stack 112, spills 316
// launch <0, 12, *> on 75: shared 2 * 25088
// launch <0, 12, *>: shared 3 * 25088
// launch <0, 16, *> on 75: shared 3 * 16640, stack 8, spills 44
// launch <0, 16, *>: shared 3 * 16640
// launch <1, 0, *> on 90a: shared 227328
// launch <1, 1, *> on 90a: shared 12 * 16384 + 384, stack 8, spills 8
// launch <1, 2, *> on 90a: shared 8 * 24576 + 256, stack 16, spills 40
// launch <1, 4, *> on 90a: shared 19 * 10240 + 512, stack 8, spills 32
// launch <1, 6, *> on 90a: shared 14 * 14336 + 384
// launch <1, 8, *> on 90a: shared 11 * 18432 + 256
// launch <1, 12, 0> on 90a: shared 7 * 26624 + 256, stack 16, spills 80
// launch <1, 12, *> on 90a: shared 7 * 26624 + 256
// launch <1, 16, 0> on 90a: shared 5 * 34816 + 256, stack 112, spills 312
// launch <1, 16, *> on 90a: shared 5 * 34816 + 256, stack 16, spills 64
// launch <2, 4, *> on 75: blocks 1, shared 2 * 17408, stack 16, spills 60
// launch <2, 4, *>: shared 2 * 17408, stack 24, spills 124
// launch <2, 6, *> on 75: shared 2 * 12800, stack 72, spills 228
// launch <2, 6, *>: shared 3 * 12800, stack 56, spills 160
// launch <2, 8, *> on 75: blocks 1, shared 2 * 16896, stack 64, spills 270
// launch <2, 8, *>: shared 2 * 16896, stack 32, spills 120
// launch <2, 12, 0> on 75: shared 2 * 25088, stack 192, spills 426
// launch <2, 12, 0>: shared 3 * 25088, stack 176, spills 410
// launch <2, 12, *> on 75: shared 2 * 25088
// launch <2, 12, *>: shared 3 * 25088
// launch <2, 16, 0>: shared 3 * 16640, stack 272, spills 606
// launch <2, 16, *>: shared 3 * 16640
template <Engine kEngine, int kSteps, Layout kLayout>
__global__ void __launch_bounds__(most_threads(kEngine, kSteps), least_blocks(kEngine, kSteps))
    encode_rows(const __grid_constant__ EncodeParameters parameters, int depth) {
  using Warp = EncodeWarp<kEngine, kSteps, kLayout>;
  constexpr int kMostWarps = most_threads(kEngine, kSteps) / 32;
  unsigned char* memory = dynamic_shared_memory();
  __shared__ uint32_t codes[kMostWarps][kWarpRows];
  __shared__ typename Warp::Group::Open open[kMostWarps / Warp::Group::kWarps];
#ifdef RVQ_EMULATE_CUDA
  constexpr bool kLaunched = true;
#elif defined(RVQ_WARPGROUP)
  // Where there is wgmma, the other kernels are never launched.
  constexpr bool kLaunched = kEngine == Engine::kWarpgroup || kSteps == 0;
#elif defined(RVQ_LIMBS)
  constexpr bool kLaunched = kEngine != Engine::kWarpgroup;
#else
  // Product tests there say that there are no limbs.
  constexpr bool kLaunched = kEngine == Engine::kWarp;
#endif
  if constexpr (!kLaunched) return;
  int warp = static_cast<int>(threadIdx.x) / 32;
  int warps = kEngine != Engine::kWarpgroup ? kWarps : static_cast<int>(blockDim.x) / 32;
  // There are fewer than 2^31 rows.
  uint32_t rows = static_cast<uint32_t>(warps) * kWarpRows;
  uint32_t blocks = (static_cast<uint32_t>(parameters.count) + rows - 1) / rows;
  uint32_t passes = blocks <= blockIdx.x ? 0 : (blocks - blockIdx.x - 1) / gridDim.x + 1;
  auto& own_list = open[warp / Warp::Group::kWarps];
  // Before the stream makes all meet.
  if (threadIdx.x % (32 * Warp::Group::kWarps) == 0) own_list.counts[0] = own_list.counts[1] = 0;
  const StageView* views = parameters.views;
  auto encode = [&](auto& stream) {
    Warp encoder(parameters, views, own_list, codes[warp]);
    for (uint32_t block = blockIdx.x; block < blocks; block += gridDim.x) encoder.run(block * rows, stream);
  };
  if constexpr (kEngine != Engine::kWarpgroup) {
    UnitStream<Warp::kUnitBytes, kWarps * 32> stream(parameters.packed, parameters.units, passes, memory, depth);
    encode(stream);
  } else {
#ifdef RVQ_WARPGROUP
    if constexpr (kSteps == 0) {
      using Stream = BulkStream<Warp::kUnitBytes, kMostRing, false>;
      static_assert(std::is_same_v<typename Stream::Ring, WideRing>);
      static_assert(sizeof codes + sizeof open + kWideShared <= kMostShared);
      int operand_bytes = wide_operand_bytes(wide_steps(parameters.dim)) * warps / kGroupWarps;
      auto& ring = *reinterpret_cast<typename Stream::Ring*>(memory + operand_bytes);
      Stream stream(parameters.packed, parameters.units, passes, ring, depth);
      encode(stream);
    } else {
      // Little of the first-level cache is left beside the ring: what is read often must not depend on it.
      __shared__ StageView near_views[kNearViews];
      static_assert(sizeof(StageView) % sizeof(uint32_t) == 0);
      if (parameters.stages <= kNearViews) {
        auto from = reinterpret_cast<const uint32_t*>(parameters.views);
        auto to = reinterpret_cast<uint32_t*>(near_views);
        int words = parameters.stages * static_cast<int>(sizeof(StageView) / sizeof(uint32_t));
        for (int i = static_cast<int>(threadIdx.x); i < words; i += static_cast<int>(blockDim.x)) to[i] = from[i];
        views = near_views;
      }
      using Stream = BulkStream<Warp::kUnitBytes, ring_depth(Warp::kUnitBytes)>;
      static_assert(sizeof codes + sizeof open + sizeof near_views + sizeof(typename Stream::Ring) <= kMostShared);
      Stream stream(parameters.packed, parameters.units, passes, *reinterpret_cast<typename Stream::Ring*>(memory));
      encode(stream);
    }
#endif
  }
}

// How the kernel fits on a device: how far the stream of codewords runs ahead, and the blocks that fill it.
struct Fit {
  int depth;
  int shared_bytes;
  size_t multiprocessors;
  size_t most_blocks;
};

template <Engine kEngine, int kSteps, Layout kLayout>
Fit measure_fit(int device) {
  CurrentDevice current(device);
  auto kernel = encode_rows<kEngine, kSteps, kLayout>;
  constexpr int kUnitBytes = EncodeWarp<kEngine, kSteps, kLayout>::kUnitBytes;
  int multiprocessors = 0;
  int shared = 0;
  check(cudaDeviceGetAttribute(&multiprocessors, cudaDevAttrMultiProcessorCount, device), "device attribute");
  check(cudaDeviceGetAttribute(&shared, cudaDevAttrMaxSharedMemoryPerMultiprocessor, device), "device attribute");
  // Of a block: what the system takes, the codes, and what is open.
  constexpr int kReserved =
      2048 + kWarps * static_cast<int>(sizeof(typename EncodeWarp<kEngine, kSteps, kLayout>::Group::Open));
  int depth = (3 * kUnitBytes + kReserved) * least_blocks(kEngine, kSteps) <= shared ? 3 : 2;
  int bytes = depth * kUnitBytes;
  if (kEngine == Engine::kWarpgroup) {
    bytes = kSteps == 0 ? kWideShared : sizeof(BulkRing<kUnitBytes, ring_depth(kUnitBytes)>);
  }
  auto allow = [&] { return cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes); };
  check(with_code_loaded(allow), "shared memory");
  int resident = 0;
  check(cudaOccupancyMaxActiveBlocksPerMultiprocessor(&resident, kernel, most_threads(kEngine, kSteps), bytes),
        "occupancy");
  return {depth, bytes, static_cast<size_t>(multiprocessors),
          static_cast<size_t>(std::max(resident, 1)) * multiprocessors};
}

// Asked of the runtime once for each device: a call of one vector is over in less time.
template <Engine kEngine, int kSteps, Layout kLayout>
Fit fit(int device) {
  static std::mutex mutex;
  // Never destroyed: threads of the pool may ask at the end of the process.
  static auto& known = *new std::map<int, Fit>;
  std::lock_guard lock(mutex);
  auto found = known.find(device);
  if (found == known.end()) found = known.emplace(device, measure_fit<kEngine, kSteps, kLayout>(device)).first;
  return found->second;
}

// Warps that encode, of a block: with wgmma as few warpgroups as take no more turns than the largest block would.
template <Engine kEngine, int kSteps>
size_t warps_of_block(const Fit& fit, size_t count) {
  if (kEngine != Engine::kWarpgroup) return kWarps;
  size_t turn = fit.multiprocessors * kGroupWarps * kWarpRows;
  size_t turns = (count + turn * most_warpgroups(kSteps) - 1) / (turn * most_warpgroups(kSteps));
  return (count + turn * turns - 1) / (turn * turns) * kGroupWarps;
}

size_t resident_blocks(const Fit& fit, size_t warps, size_t count) {
  size_t rows = warps * kWarpRows;
  return std::min((count + rows - 1) / rows, fit.most_blocks);
}

// The ring of codewords beside the operands of so many warps' rows.
Fit beside_operands(Fit fit, size_t warps, int dim) {
  constexpr int kPieceBytes = wide_tile(0).chunk_bytes();
  int left = kWideShared - wide_operand_bytes(wide_steps(dim)) * static_cast<int>(warps) / kGroupWarps;
  int barrier_bytes = offsetof(WideRing, pieces);
  fit.depth = std::min(kMostRing, (left - barrier_bytes) / kPieceBytes);
  fit.shared_bytes = kWideShared - left + barrier_bytes + fit.depth * kPieceBytes;
  return fit;
}

struct Target {
  int device;
  cudaStream_t stream;
};

template <Engine kEngine, int kSteps, Layout kLayout>
void launch_layout(const EncodeParameters& parameters, const Target& target) {
  Fit found = fit<kEngine, kSteps, kLayout>(target.device);
  size_t warps = warps_of_block<kEngine, kSteps>(found, parameters.count);
  if (kEngine == Engine::kWarpgroup && kSteps == 0) found = beside_operands(found, warps, parameters.dim);
  auto blocks = static_cast<unsigned>(resident_blocks(found, warps, parameters.count));
  Launch shape{dim3(blocks), dim3(static_cast<unsigned>(32 * warps)), static_cast<size_t>(found.shared_bytes),
               target.stream};
  launch("encode kernel", shape, encode_rows<kEngine, kSteps, kLayout>, parameters, found.depth);
}

// Whether rows fill all steps of dimensions that the kernel reads.
template <Engine kEngine, int kSteps>
bool fills_steps(int dim) {
  if (kSteps > 0) return dim == 16 * kSteps;
  // The last two of wgmma's are none of those.
  if (kEngine == Engine::kWarpgroup) return dim == 16 * (wide_steps(dim) - 2);
  return dim % 64 == 0;
}

template <Engine kEngine, int kSteps>
void launch_steps(const EncodeParameters& parameters, const Target& target) {
  auto addresses = reinterpret_cast<uintptr_t>(parameters.rows) | reinterpret_cast<uintptr_t>(parameters.queries) |
                   reinterpret_cast<uintptr_t>(parameters.residuals);
  bool aligned = parameters.dim % 4 == 0 && addresses % 16 == 0;
  // Few steps are cheap to check one by one.
  constexpr Layout kWhole = kSteps == 1 || kSteps == 2 ? Layout::kAligned : Layout::kExact;
  if (aligned && (kWhole == Layout::kAligned || fills_steps<kEngine, kSteps>(parameters.dim))) {
    launch_layout<kEngine, kSteps, kWhole>(parameters, target);
  } else {
    launch_layout<kEngine, kSteps, Layout::kAny>(parameters, target);
  }
}

template <Engine kEngine>
void launch_engine(int steps, const EncodeParameters& parameters, const Target& target) {
  // There are no limbs of few steps, nor of more than registers hold.
  constexpr Engine kOrHalves = kEngine == Engine::kLimbs ? Engine::kWarp : kEngine;
  static_assert(kFewestLimbSteps == 4);
  switch (steps) {
    case 1:
      return launch_steps<kOrHalves, 1>(parameters, target);
    case 2:
      return launch_steps<kOrHalves, 2>(parameters, target);
    case 4:
      return launch_steps<kEngine, 4>(parameters, target);
    case 6:
      return launch_steps<kEngine, 6>(parameters, target);
    case 8:
      return launch_steps<kEngine, 8>(parameters, target);
    case 12:
      return launch_steps<kEngine, 12>(parameters, target);
    case 16:
      return launch_steps<kEngine, 16>(parameters, target);
    default:
      return launch_steps<kOrHalves, 0>(parameters, target);
  }
}

// Operands of the rows that are under way at once, where registers do not hold them.
size_t fragment_bytes(const Codebooks& codebooks, size_t count) {
  TileShape tile = codebooks.tile();
  if (tile.is_resident() || tile.warpgroup) return 0;
  size_t exact = resident_blocks(fit<Engine::kWarp, 0, Layout::kExact>(codebooks.device()), kWarps, count);
  size_t any = resident_blocks(fit<Engine::kWarp, 0, Layout::kAny>(codebooks.device()), kWarps, count);
  return std::max(exact, any) * kWarps * 32 * tile.steps * sizeof(uint4);
}

struct Workspace {
  size_t units, fragments, size;

  Workspace(const Codebooks& codebooks, size_t count) {
    ArrayLayout layout;
    units = layout.add(codebooks.cosine() ? count * codebooks.dim() * sizeof(float) : 0);
    fragments = layout.add(fragment_bytes(codebooks, count));
    size = layout.size();
  }
};

// By the tensor cores.
void encode_tiles(const Codebooks& codebooks, const EncodeRequest& request, void* workspace, cudaStream_t stream) {
  TileShape tile = codebooks.tile();
  Workspace at(codebooks, request.count);
  float* units = reinterpret_cast<float*>(static_cast<unsigned char*>(workspace) + at.units);
  // The cosine metric brings the rows of every stage to unit length first: a launch a stage.
  size_t stages_a_launch = codebooks.cosine() ? 1 : request.stages;
  for (size_t s = 0; s < request.stages; s += stages_a_launch) {
    EncodeParameters parameters{};
    parameters.rows = s == 0 ? request.vectors : request.residuals;
    parameters.queries = parameters.rows;
    // One stage whose residuals are not wanted writes none.
    parameters.residuals = request.residuals != nullptr ? request.residuals : const_cast<float*>(request.vectors);
    parameters.count = request.count;
    parameters.dim = static_cast<int>(codebooks.dim());
    parameters.stages = static_cast<int>(stages_a_launch);
    parameters.views = codebooks.views() + s;
    parameters.weights = codebooks.weights();
    parameters.packed = codebooks.packed() + codebooks.first_tile(s) * tile.bytes();
    size_t tiles = codebooks.first_tile(s + stages_a_launch) - codebooks.first_tile(s);
    parameters.units = static_cast<int>(tiles * tile.chunks());
    parameters.codes = request.codes.from(s).data;
    parameters.code_stride = static_cast<int>(request.stages);
    parameters.wide = request.codes.wide;
    parameters.keep_residuals = request.keep_residuals || s + stages_a_launch < request.stages;
    parameters.fragments = static_cast<unsigned char*>(workspace) + at.fragments;
    if (codebooks.cosine()) {
      make_unit_rows(parameters.rows, request.count, codebooks.dim(), units, s == 0 ? request.bad : nullptr, stream);
      parameters.queries = units;
    } else {
      parameters.bad = request.bad;
    }
    Target target{codebooks.device(), stream};
    if (tile.warpgroup) {
      launch_engine<Engine::kWarpgroup>(tile.is_resident() ? tile.steps - 1 : 0, parameters, target);
    } else if (tile.limbs) {
      launch_engine<Engine::kLimbs>(tile.steps, parameters, target);
    } else {
      launch_engine<Engine::kWarp>(tile.is_resident() ? tile.steps : 0, parameters, target);
    }
  }
}

}  // namespace

size_t encode_workspace_bytes(const Codebooks& codebooks, size_t count) {
  return std::max(Workspace(codebooks, count).size, split_workspace_bytes(codebooks, count));
}

void encode(const Codebooks& codebooks, const EncodeRequest& request, void* workspace, cudaStream_t stream) {
  if (request.count == 0) return;
  CurrentDevice current(codebooks.device());
  if (is_split(codebooks, request.count, request.stages)) {
    encode_split(codebooks, request, workspace, stream);
  } else {
    encode_tiles(codebooks, request, workspace, stream);
  }
}

}  // namespace rvq::cuda
