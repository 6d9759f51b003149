// Finds the codewords that equal an earlier one of their stage: they can never win, since their distances are the same
// and ties go to the lowest code. To have them in the screen would be right too, and slow: a row whose nearest codeword
// is there twice is never certain.
//
// Shapes: searched [num_codewords][dim]. Eight neighbouring threads have a codeword. 1. They hash it and enter it in a
// table of at least two slots a codeword, each of the upper half of a hash and the complement of the lowest code that
// has it: by atomics, whose result depends on no order but for who finds a place at all. 2. They compare the codeword,
// bit by bit, with the one that the table names. Every step is bounded, also for a codebook from a file that means
// harm: who finds no place in kMostProbes, or meets the hash of a codeword that is another, counts as distinct. No
// shared memory. Bound by latency: two passes over the codewords, the second over the repeated ones alone.

#include "codeword_team.cuh"

namespace rvq::cuda {

namespace {

// Of a table that is half full hardly any codeword needs more than twenty.
constexpr uint32_t kMostProbes = 32;
constexpr uint32_t kNoSlot = ~0u;

// The bits that count: a dimension of weight zero does not matter to a distance, nor does the sign of a zero.
__device__ __forceinline__ uint32_t significant_bits(const PackRequest& job, const float* codeword, int i) {
  float element = codeword[i];
  if (element == 0 || (job.weights != nullptr && job.weights[i] == 0)) return 0;
  return __float_as_uint(element);
}

// The finalizer of SplitMix64, of an element and its place.
__device__ __forceinline__ unsigned long long scramble(uint32_t bits, int i) {
  unsigned long long x = (static_cast<unsigned long long>(i) << 32 | bits) + 0x9e3779b97f4a7c15;
  x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9;
  x = (x ^ x >> 27) * 0x94d049bb133111eb;
  return x ^ x >> 31;
}

// A slot that is taken keeps its half of a hash: equal codewords pass the same slots, and end in the same one.
__device__ __forceinline__ uint32_t enter(const PackedStage& stage, unsigned long long hash, uint32_t k) {
  // Never zero, since not all bits of a code are set.
  unsigned long long entry = (hash & 0xffffffff00000000) | ~k;
  uint32_t slot = static_cast<uint32_t>(hash) & (stage.table_size - 1);
  for (uint32_t probe = 1; probe <= kMostProbes; probe++) {
    unsigned long long there = atomicCAS(&stage.table[slot], 0ull, entry);
    if (there == 0) return slot;
    if (there >> 32 == hash >> 32) {
      // The lowest code has the largest complement.
      atomicMax(&stage.table[slot], entry);
      return slot;
    }
    slot = (slot + probe) & (stage.table_size - 1);
  }
  return kNoSlot;
}

__global__ void __launch_bounds__(kPackThreads) enter_hashes(const __grid_constant__ PackRequest job) {
  const PackedStage stage = job.stages[blockIdx.y];
  CodewordTeam team;
  if (team.k >= stage.num_codewords) return;
  const float* codeword = stage.searched + static_cast<size_t>(team.k) * job.dim;
  unsigned long long hash = 0;
#pragma unroll 4
  for (int i = team.lane; i < job.dim; i += kSumLanes) hash += scramble(significant_bits(job, codeword, i), i);
  hash = team.sum(hash);
  if (team.lane == 0) stage.slots[team.k] = enter(stage, hash, team.k);
}

__global__ void __launch_bounds__(kPackThreads) compare_with_lowest(const __grid_constant__ PackRequest job) {
  const PackedStage stage = job.stages[blockIdx.y];
  CodewordTeam team;
  if (team.k >= stage.num_codewords) return;
  uint32_t slot = stage.slots[team.k];
  uint32_t lowest = slot == kNoSlot ? team.k : ~static_cast<uint32_t>(stage.table[slot]);
  bool differs = false;
  if (lowest < team.k) {
    const float* codeword = stage.searched + static_cast<size_t>(team.k) * job.dim;
    const float* earlier = stage.searched + static_cast<size_t>(lowest) * job.dim;
#pragma unroll 4
    for (int i = team.lane; i < job.dim; i += kSumLanes) {
      differs |= significant_bits(job, codeword, i) != significant_bits(job, earlier, i);
    }
    differs = __any_sync(team.mask, differs);
  }
  if (team.lane == 0) stage.repeated[team.k] = lowest < team.k && !differs;
}

}  // namespace

void mark_repeated(const PackRequest& request, CUstream_st* stream) {
  Launch shape = codeword_teams(request, stream);
  launch("packing: hashes", shape, enter_hashes, request);
  launch("packing: repeated codewords", shape, compare_with_lowest, request);
}

}  // namespace rvq::cuda
