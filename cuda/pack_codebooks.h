// Packs codewords that are on a device for the screen of the tensor cores, all stages of a quantizer at once.

#pragma once

#include <cuda_runtime.h>

#include <cstddef>
#include <cstdint>

#include "screen_bound.h"
#include "stage.cuh"

namespace rvq::cuda {

// Of squared distances as float32.
constexpr int kExponents = 256;

// What packing adds up over a stage; zero at first. Of numbers that are not negative, as bits, the larger has the
// larger.
struct StageTotals {
  unsigned exponents[kExponents];           // distinct codewords by their squared distance from the first mean
  unsigned long long largest;               // |a_i·(c_k,i − m_i)|, a float64
  unsigned long long largest_squared_norm;  // |C_k|², a float64
  // Of limbs: over the codewords that are not zero, of which there are so many, the largest element over the norm,
  // times 2^32. Integers, whose sum does not depend on an order.
  unsigned long long peaks;
  unsigned peaked;
};

// A stage as packing sees it. This is in device memory, and so is all that it points to.
struct PackedStage {
  const float* searched;  // [num_codewords][dim]: what distances are measured to
  uint32_t num_codewords;
  uint32_t places;  // for codewords in its tiles

  // Out. Of the view all that depends on codewords, and what it points to (stage.cuh), where only what is not zero in
  // any case is written: the rest is zero at first.
  StageView* view;
  float* centre;
  float* factors;  // null without weights
  float2* bounds;
  unsigned char* tiles;

  // Scratch.
  unsigned long long* table;  // [table_size], a power of two: zero at first (repeated_codewords.cu)
  uint32_t table_size;
  StageTotals* totals;
  uint32_t* slots;           // [num_codewords] in the table
  unsigned char* repeated;   // [num_codewords] 1 where it equals an earlier one, in all that counts
  unsigned char* exponents;  // [num_codewords] of the squared distance from the first mean, where it is distinct
  double* column_sums;       // [chunks_of(num_codewords)][dim]
  uint32_t* column_counts;   // [chunks_of(num_codewords)] of codewords in them
  CodewordSums* sums;        // [num_codewords]
};

struct PackRequest {
  const PackedStage* stages;  // device [num_stages]
  size_t num_stages;
  size_t most_codewords;  // of a stage
  int dim;                // kMostScreenedDim at most
  TileShape tile;
  const float* weights;        // device [dim] or null
  const double* root_weights;  // device [dim] or null: their square roots
  double largest_root;         // of them
  // All tables and totals, which lie together.
  void* cleared;
  size_t cleared_bytes;
};

// Enqueues it: allocates nothing, waits for nothing.
void pack_codebooks(const PackRequest& request, CUstream_st* stream);

// Its first steps: which codewords equal an earlier one, and then the centre of the others. Stages are kMostGridStages
// at most.
constexpr size_t kMostGridStages = 65535;
void mark_repeated(const PackRequest& request, CUstream_st* stream);
void choose_centres(const PackRequest& request, CUstream_st* stream);

// Columns are added up in chunks of codewords: so many that the device is busy, so few that what is left is soon added
// up.
constexpr uint32_t kFewestChunkCodewords = 32;
constexpr uint32_t kMostChunks = 256;
__host__ __device__ constexpr uint32_t chunk_codewords(uint32_t num_codewords) {
  uint32_t codewords = (num_codewords + kMostChunks - 1) / kMostChunks;
  return codewords < kFewestChunkCodewords ? kFewestChunkCodewords : codewords;
}
__host__ __device__ constexpr uint32_t chunks_of(uint32_t num_codewords) {
  return (num_codewords + chunk_codewords(num_codewords) - 1) / chunk_codewords(num_codewords);
}
// Of chunks_of() for so many codewords or fewer.
__host__ __device__ constexpr uint32_t most_chunks(uint32_t num_codewords) {
  uint32_t chunks = (num_codewords + kFewestChunkCodewords - 1) / kFewestChunkCodewords;
  return chunks < kMostChunks ? chunks : kMostChunks;
}

}  // namespace rvq::cuda
