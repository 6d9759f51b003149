// Decoding: sums of codewords in stage order.
//
// Shapes: codes [count][code_stages], codewords [num_codewords][dim] a stage, vectors [count][dim]. A thread has four
// neighbouring elements of a row (one where dim or an address does not allow it) and walks over the stages; the threads
// of a row read its codes together and each codeword in one piece. No shared memory. One float32 addition an element
// and a stage, in a fixed order: the result depends on nothing else. Bound by the memory: the codewords come from L2.

#include <algorithm>
#include <cstdint>

#include "decode.h"
#include "launch.cuh"
#include "stage_table.cuh"

namespace rvq::cuda {

namespace {

constexpr unsigned kThreads = 256;

__device__ __forceinline__ void clear(float& sum) { sum = 0.0f; }
__device__ __forceinline__ void clear(float4& sum) { sum = make_float4(0.0f, 0.0f, 0.0f, 0.0f); }
__device__ __forceinline__ void add(float& sum, float c) { sum = __fadd_rn(sum, c); }
__device__ __forceinline__ void add(float4& sum, float4 c) {
  sum = make_float4(__fadd_rn(sum.x, c.x), __fadd_rn(sum.y, c.y), __fadd_rn(sum.z, c.z), __fadd_rn(sum.w, c.w));
}

struct DecodeArguments {
  StageTable table;
  DeviceCodes codes;  // of the table's first stage: the others follow
  size_t count;
  size_t code_stages;
  size_t first_stage;
  int row_elements;  // of a row, each one or four numbers
  void* vectors;
  unsigned* out_of_range;
};

// Element: float or float4.
template <typename Element>
__global__ void __launch_bounds__(kThreads) decode_rows(const __grid_constant__ DecodeArguments job) {
  size_t row = static_cast<size_t>(blockIdx.x) * blockDim.y + threadIdx.y;
  if (row >= job.count) return;
  Element* out = static_cast<Element*>(job.vectors) + row * job.row_elements;
  size_t codes = row * job.code_stages + job.first_stage;
  for (int i = threadIdx.x; i < job.row_elements; i += blockDim.x) {
    Element sum;
    clear(sum);
    if (job.first_stage > 0) sum = out[i];
#pragma unroll 4
    for (int s = 0; s < job.table.count; s++) {
      size_t code = checked_code(job.codes, codes + s, job.table.num_codewords[s], job.out_of_range);
      add(sum, reinterpret_cast<const Element*>(job.table.codewords[s])[code * job.row_elements + i]);
    }
    out[i] = sum;
  }
}

bool aligned(const void* address) { return reinterpret_cast<uintptr_t>(address) % sizeof(float4) == 0; }

}  // namespace

void decode(const Codebooks& codebooks, const DecodeRequest& request, CUstream_st* stream) {
  if (request.count == 0) return;
  for (size_t first = 0; first < request.stages; first += kTableStages) {
    size_t count = std::min<size_t>(kTableStages, request.stages - first);
    DecodeArguments job{
        stage_table(codebooks, first, count), request.codes,   request.count,       request.code_stages, first,
        static_cast<int>(codebooks.dim()),    request.vectors, request.out_of_range};
    bool by_four = codebooks.dim() % 4 == 0 && aligned(request.vectors);
    for (size_t s = 0; s < count; s++) by_four = by_four && aligned(job.table.codewords[s]);
    if (by_four) job.row_elements /= 4;

    unsigned along = threads_along(static_cast<size_t>(job.row_elements));
    dim3 block(along, kThreads / along);
    Launch shape{blocks_for(request.count, block.y), block, 0, stream};
    if (by_four) {
      launch("decode", shape, decode_rows<float4>, job);
    } else {
      launch("decode", shape, decode_rows<float>, job);
    }
  }
}

}  // namespace rvq::cuda
