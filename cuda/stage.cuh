// A stage as the kernels see it, and the form in which its codewords are packed for the tensor cores.

#pragma once

#include <cuda_runtime.h>

#include <cstddef>
#include <cstdint>

#include "screen_bound.h"

namespace rvq::cuda {

// How codewords are packed: in tiles of `codewords`, and within a tile in chunks of `chunk_steps` times 16 dimensions.
// Dimension 16·s + 4·t + e stands in operand slot 2t + e for e < 2, 2t + 8 + e − 2 for e ≥ 2: the same permutation for
// rows (of limbs 32·s + i stands in slot i). Within a chunk:
//  - for mma.sync a thread's part of each operand (multiply_add in mma.cuh) is contiguous: [group of 8
//    codewords][pair of steps][lane][16 bytes], an odd last step [lane][8 bytes]; where the chunk is the whole tile,
//    its codewords' bounds (start, slope) follow. Of limbs likewise, a step having 32 dimensions of one byte: of a
//    group all high limbs, then all low ones;
//  - for wgmma [step][half of the slots][group of 8][codeword][8 slots]: core matrices of 128 bytes. The last step of
//    the tile has the codeword's bound in place of dimensions (screen_bound.h).
struct TileShape {
  int codewords;
  int steps;           // of 16 dimensions, with padding; with wgmma one more at least
  int chunk_steps;     // divides steps
  bool warpgroup;      // packed for wgmma
  bool limbs = false;  // two int8 each, not float16 (screen_bound.h)

  __host__ __device__ constexpr int chunk_bytes() const { return codewords * chunk_steps * 32; }
  __host__ __device__ constexpr int chunks() const { return steps / chunk_steps; }
  // Whether the rows' operands are all held in registers.
  __host__ __device__ constexpr bool is_resident() const { return chunk_steps == steps; }
  __host__ __device__ constexpr bool has_bounds() const { return is_resident() && !warpgroup; }
  // Whether upper ends are not below zero (screen_bound.h).
  __host__ __device__ constexpr bool is_shifted() const { return is_resident() && warpgroup; }
  __host__ __device__ constexpr int bytes() const {
    return chunks() * chunk_bytes() + (has_bounds() ? codewords * 8 : 0);
  }
  // Of one limb of a group of eight codewords.
  __host__ __device__ constexpr int limb_bytes() const { return chunk_steps * 128; }
  // Of dimension i of codeword k, in bytes from the first tile.
  __host__ __device__ constexpr size_t offset(size_t k, int i) const {
    int n = static_cast<int>(k % codewords);
    int step = i / 16 % chunk_steps;
    if (warpgroup) {
      int half = i % 4 / 2;
      int slot = i % 16 / 4 * 2 + i % 2;
      return k / codewords * bytes() + static_cast<size_t>(i / 16 / chunk_steps) * chunk_bytes() +
             static_cast<size_t>(step * 2 + half) * codewords * 16 + static_cast<size_t>(n) * 16 + slot * 2;
    }
    int lane = n % 8 * 4 + i % 16 / 4;
    if (limbs) {
      // The high limb: the low one is limb_bytes() further.
      int wide_steps = chunk_steps / 2;
      int in_limb = i / 32 / 2 < wide_steps / 2 ? i / 64 * 512 + lane * 16 + i % 64 / 16 * 4
                                                : wide_steps / 2 * 512 + lane * 8 + i % 32 / 16 * 4;
      return k / codewords * bytes() + static_cast<size_t>(n / 8) * chunk_steps * 256 + in_limb + i % 4;
    }
    size_t in_group = step / 2 < chunk_steps / 2 ? static_cast<size_t>(step) / 2 * 512 + lane * 16 + step % 2 * 8
                                                 : static_cast<size_t>(chunk_steps) / 2 * 512 + lane * 8;
    return k / codewords * bytes() + static_cast<size_t>(i / 16 / chunk_steps) * chunk_bytes() +
           static_cast<size_t>(n / 8) * chunk_steps * 256 + in_group + i % 4 * 2;
  }
};

// Rows whose fragments fit in registers: the whole tile is a chunk. More dimensions: a chunk has 64.
__host__ __device__ constexpr TileShape resident_tile(int steps) {
  return {steps <= 2 ? 256 : steps <= 4 ? 128 : steps <= 8 ? 64 : 32, steps, steps, false};
}

// Limbs, for steps of which there are two and more times two: below, products are not what takes the time.
constexpr int kFewestLimbSteps = 4;
__host__ __device__ constexpr TileShape limb_tile(int steps) {
  TileShape tile = resident_tile(steps);
  tile.limbs = true;
  return tile;
}

__host__ __device__ constexpr TileShape streamed_tile(int steps) { return {64, (steps + 3) / 4 * 4, 4, false}; }

// With mma.sync, for kernels of so many steps; 0 stands for those whose rows' operands are not in registers.
__host__ __device__ constexpr TileShape unit_tile(int steps, bool limbs) {
  return limbs ? limb_tile(steps) : steps > 0 ? resident_tile(steps) : streamed_tile(4);
}

// With wgmma, codewords that are multiplied at once, in groups of eight.
constexpr int kPieceGroups = 8;
constexpr int kPieceCodewords = 8 * kPieceGroups;

__host__ __device__ constexpr TileShape warpgroup_tile(int steps) {
  return {steps <= 2 ? 256 : kPieceCodewords, steps + 1, steps + 1, true};
}

// With wgmma, more dimensions than registers hold: the first kWideRegisterSteps of the rows' operands are there, the
// others in shared memory, of which a multiprocessor has enough for kMostWideSteps of dimensions.
constexpr int kWideRegisterSteps = 18;
constexpr int kMostWideSteps = 64;

__host__ __device__ constexpr TileShape wide_tile(int steps) {
  // Pairs of them, the last one's second for the bound.
  int padded = (steps + 2) / 2 * 2;
  return {128, padded < kWideRegisterSteps + 2 ? kWideRegisterSteps + 2 : padded, 2, true};
}

__host__ __device__ constexpr int wide_steps(int dim) { return wide_tile((dim + 15) / 16).steps; }

// Steps for which there is a kernel: dim rounded up to one of these times 16.
constexpr int kResidentSteps[] = {1, 2, 4, 6, 8, 12, 16};

// `warpgroup`: on a device with wgmma.
inline TileShape tile_for(size_t dim, bool warpgroup) {
  int steps = static_cast<int>((dim + 15) / 16);
  for (int resident : kResidentSteps) {
    if (steps <= resident) return warpgroup ? warpgroup_tile(resident) : resident_tile(resident);
  }
  return warpgroup && steps <= kMostWideSteps ? wide_tile(steps) : streamed_tile(steps);
}

// A thread keeps apart what it has of every fourth group of eight codewords: the groups 4j + set (ranking.cuh).
constexpr int kSets = 4;

// A ranked score has so many tag bits at least: what is above its integer is then shifted out.
constexpr int kFewestTagBits = 8;

// In device memory; the pointers are to device memory.
struct StageView {
  const float* codewords;  // [num_codewords][dim]
  const float* searched;   // the same, or brought to unit length: what distances are measured to
  const float2* bounds;    // [tiles · codewords of a tile]: start, slope; of a shifted tile width, slope
  const float* centre;     // [steps · 16], zeros from dim on
  const float* factors;    // [steps · 16] square roots of the weights times scale[0], or null
  float2 widest;           // of a shifted tile the largest width and slope
  float shift;             // likewise c, as the slots hold it
  float scale[2];          // powers of two; p is their product
  float largest_norm;      // of a codeword in the screen's space
  CodewordErrors errors;
  int num_codewords;
  int tiles;
  int tag_bits;   // low bits of a ranked score that say which codeword it is, or piece (ranking.cuh, piece_ranking.cuh)
  bool screened;  // else every row is compared with every codeword
  // Of limbs (screen_bound.h), the last two rounded up.
  float limb_scale;         // g
  float inverse_row_error;  // 1/η₀
  float inverse_row_unit;   // 1/u₀
};

}  // namespace rvq::cuda
