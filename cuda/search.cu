// Chooses and launches the encode kernel for codebooks and rows.

#include "search.h"

#include <algorithm>

#include "canonical.cuh"
#include "encode_kernel.cuh"
#include "failure.h"
#include "unit_stream.cuh"

namespace rvq::cuda {

namespace {

template <int kSteps, bool kAligned>
__global__ void __launch_bounds__(kThreads, least_blocks(kSteps))
    encode_rows(const __grid_constant__ EncodeParameters parameters, int depth) {
  extern __shared__ __align__(128) unsigned char units[];
  __shared__ uint32_t codes[kWarps][16 * row_tiles(kSteps)];
  using Warp = EncodeWarp<kSteps, kAligned>;
  constexpr size_t kRows = block_rows(kSteps);
  size_t warp_index = threadIdx.x / 32;
  size_t blocks = (parameters.count + kRows - 1) / kRows;
  size_t passes = blocks <= blockIdx.x ? 0 : (blocks - blockIdx.x - 1) / gridDim.x + 1;
  UnitStream<Warp::kUnitBytes, kThreads> stream(parameters.packed, parameters.units, passes, units, depth);
  Warp warp(parameters, codes[warp_index]);
  for (size_t block = blockIdx.x; block < blocks; block += gridDim.x) {
    warp.run(block * kRows + warp_index * 16 * row_tiles(kSteps), [&] { return stream.next(); });
  }
}

// units[row] = the row brought to unit length, by eight threads a row. A row of zeros has no direction: its unit row is
// marked by the infinity that gets code 0. With `bad` not null, rows that are zero or not finite are reported there.
__global__ void __launch_bounds__(256)
    make_unit_rows(const float* rows, float* units, size_t count, int dim, unsigned long long* bad) {
  int lane = static_cast<int>(threadIdx.x) % kSumLanes;
  unsigned mask = 0xffu << (threadIdx.x % 32 / kSumLanes * kSumLanes);
  size_t rows_at_once = static_cast<size_t>(gridDim.x) * blockDim.x / kSumLanes;
  for (size_t row = (static_cast<size_t>(blockIdx.x) * blockDim.x + threadIdx.x) / kSumLanes; row < count;
       row += rows_at_once) {
    const float* x = rows + row * dim;
    double squared_norm = canonical_squared_norm(x, dim, lane, mask);
    bool zero = squared_norm == 0;
    for (int i = lane; i < dim; i += kSumLanes) {
      units[row * dim + i] = zero ? INFINITY : unit_element(x[i], squared_norm);
      if (bad != nullptr && encoding::magnitude(x[i]) >= encoding::kInfinity) atomicMin(bad, 2ull * (row * dim + i));
    }
    if (bad != nullptr && zero && lane == 0) atomicMin(bad, 2ull * (row * dim) + 1);
  }
}

struct Launch {
  int blocks;
  int depth;
};

// Blocks that fill the device, and how far the stream of codewords runs ahead.
template <int kSteps, bool kAligned>
Launch plan(int unit_bytes, size_t count) {
  auto kernel = encode_rows<kSteps, kAligned>;
  int device = 0;
  int multiprocessors = 0;
  int shared = 0;
  check(cudaGetDevice(&device), "cudaGetDevice");
  check(cudaDeviceGetAttribute(&multiprocessors, cudaDevAttrMultiProcessorCount, device), "device attribute");
  check(cudaDeviceGetAttribute(&shared, cudaDevAttrMaxSharedMemoryPerMultiprocessor, device), "device attribute");
  constexpr int kReserved = 2048;  // of a block: what the system takes, and the codes
  int depth = (3 * unit_bytes + kReserved) * least_blocks(kSteps) <= shared ? 3 : 2;
  check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, depth * unit_bytes), "shared memory");
  int resident = 0;
  check(cudaOccupancyMaxActiveBlocksPerMultiprocessor(&resident, kernel, kThreads, depth * unit_bytes), "occupancy");
  size_t needed = (count + block_rows(kSteps) - 1) / block_rows(kSteps);
  size_t most = static_cast<size_t>(std::max(resident, 1)) * multiprocessors;
  return {static_cast<int>(std::min(needed, most)), depth};
}

template <int kSteps, bool kAligned>
void launch_with(const EncodeParameters& parameters, cudaStream_t stream) {
  int unit_bytes = EncodeWarp<kSteps, kAligned>::kUnitBytes;
  Launch launch = plan<kSteps, kAligned>(unit_bytes, parameters.count);
  encode_rows<kSteps, kAligned><<<launch.blocks, kThreads, launch.depth * unit_bytes, stream>>>(parameters, launch.depth);
  check(cudaGetLastError(), "encode kernel");
}

template <int kSteps>
void launch(const EncodeParameters& parameters, cudaStream_t stream) {
  auto unaligned = reinterpret_cast<uintptr_t>(parameters.rows) | reinterpret_cast<uintptr_t>(parameters.queries) |
                   reinterpret_cast<uintptr_t>(parameters.residuals);
  if (parameters.dim % 4 == 0 && unaligned % 16 == 0) {
    launch_with<kSteps, true>(parameters, stream);
  } else {
    launch_with<kSteps, false>(parameters, stream);
  }
}

void launch(int steps, const EncodeParameters& parameters, cudaStream_t stream) {
  switch (steps) {
    case 1:
      return launch<1>(parameters, stream);
    case 2:
      return launch<2>(parameters, stream);
    case 4:
      return launch<4>(parameters, stream);
    case 6:
      return launch<6>(parameters, stream);
    case 8:
      return launch<8>(parameters, stream);
    case 12:
      return launch<12>(parameters, stream);
    case 16:
      return launch<16>(parameters, stream);
    default:
      return launch<0>(parameters, stream);
  }
}

size_t rounded(size_t bytes) { return (bytes + 255) / 256 * 256; }

size_t unit_rows_bytes(const Codebooks& codebooks, size_t count) {
  return codebooks.cosine() ? rounded(count * codebooks.dim() * sizeof(float)) : 0;
}

// Operands of the rows that are under way at once, where registers do not hold them.
size_t fragment_bytes(const Codebooks& codebooks, size_t count) {
  TileShape tile = tile_for(codebooks.dim());
  if (tile.has_bounds()) return 0;
  size_t unit = static_cast<size_t>(tile.chunk_bytes());
  Launch aligned = plan<0, true>(static_cast<int>(unit), count);
  Launch unaligned = plan<0, false>(static_cast<int>(unit), count);
  size_t blocks = static_cast<size_t>(std::max(aligned.blocks, unaligned.blocks));
  return blocks * kWarps * row_tiles(0) * 32 * tile.steps * sizeof(uint4);
}

}  // namespace

size_t encode_workspace_bytes(const Codebooks& codebooks, size_t count) {
  CurrentDevice current(codebooks.device());
  return unit_rows_bytes(codebooks, count) + fragment_bytes(codebooks, count);
}

void encode(const Codebooks& codebooks, const EncodeRequest& request, void* workspace, cudaStream_t stream) {
  if (request.count == 0) return;
  CurrentDevice current(codebooks.device());
  TileShape tile = tile_for(codebooks.dim());
  float* units = static_cast<float*>(workspace);
  void* fragments = static_cast<unsigned char*>(workspace) + unit_rows_bytes(codebooks, request.count);
  // The cosine metric brings the rows of every stage to unit length first: a launch a stage.
  size_t stages_a_launch = codebooks.cosine() ? 1 : request.stages;
  for (size_t s = 0; s < request.stages; s += stages_a_launch) {
    EncodeParameters parameters{};
    parameters.rows = s == 0 ? request.vectors : request.residuals;
    parameters.queries = parameters.rows;
    parameters.residuals = request.residuals;
    parameters.count = request.count;
    parameters.dim = static_cast<int>(codebooks.dim());
    parameters.stages = static_cast<int>(stages_a_launch);
    parameters.views = codebooks.views() + s;
    parameters.weights = codebooks.weights();
    parameters.packed = codebooks.packed() + codebooks.first_tile(s) * tile.bytes();
    size_t tiles = codebooks.first_tile(s + stages_a_launch) - codebooks.first_tile(s);
    parameters.units = static_cast<int>(tiles * tile.chunks());
    size_t code_bytes = request.codes.wide ? sizeof(uint32_t) : sizeof(uint16_t);
    parameters.codes = static_cast<unsigned char*>(request.codes.data) + s * code_bytes;
    parameters.code_stride = static_cast<int>(request.stages);
    parameters.wide = request.codes.wide;
    parameters.keep_residuals = request.keep_residuals || s + stages_a_launch < request.stages;
    parameters.fragments = fragments;
    if (codebooks.cosine()) {
      size_t blocks = std::min<size_t>((request.count * kSumLanes + 255) / 256, 1 << 16);
      make_unit_rows<<<static_cast<unsigned>(blocks), 256, 0, stream>>>(parameters.rows, units, request.count,
                                                                        parameters.dim, s == 0 ? request.bad : nullptr);
      check(cudaGetLastError(), "unit rows kernel");
      parameters.queries = units;
    } else {
      parameters.bad = request.bad;
    }
    launch(tile.has_bounds() ? tile.steps : 0, parameters, stream);
  }
}

}  // namespace rvq::cuda
