// Finds, for a block of rows, the few codewords that can be nearest: scores with a proven error bound, from 16-bit
// integers where the codebook has them, settled in float32.

#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "aligned_array.h"
#include "kernels.h"
#include "packed_codebook.h"

namespace rvq::cpu {

// What the screen knows about a row. `kCandidates`: the answer is one of those listed; a single one is certain.
// `kNotFinite`: the row holds NaN or infinity. `kUnknown`: too many candidates, or a row the float32 range cannot hold.
enum class Verdict { kCandidates, kNotFinite, kUnknown };

// The scratch memory of one thread; used for one block and one stage after the other.
class Screen {
 public:
  // For blocks of at most max_rows ≤ kernels.tile_rows rows of dimension dim, and codebooks of at most max_groups.
  Screen(const Kernels& kernels, size_t max_rows, size_t dim, size_t max_groups);

  // rows[count][stride] against a stage's codewords.
  void run(const PackedCodebook& codebook, const float* rows, size_t count, size_t stride);

  // The verdict on a row of the last run; its candidates' codes in no particular order.
  Verdict verdict(size_t row, std::vector<uint32_t>& candidates);

 private:
  // The groups whose best score may be the row's best.
  struct Shortlist {
    static constexpr size_t kCapacity = 32;  // 256 candidates: beyond, a scan of all codewords costs less.
    struct Entry {
      static constexpr uint32_t kSeveral = UINT32_MAX;
      uint32_t group;
      float upper;
      uint32_t position;              // of the group's only codeword that may be the nearest
      float scores[kGroupCodewords];  // the 16-bit screen's
    };
    Verdict verdict;
    uint32_t size;
    Entry entries[kCapacity];
  };

  void bound_rows(size_t count);
  void quantise_rows();
  void screen_float32(size_t count);
  void screen_classes(size_t first, size_t last);
  void screen_tile(size_t count);
  void screen_single_rows(size_t count);
  Shortlist::Entry* add(size_t row, uint32_t group, float upper);
  // Keeps the entries with a codeword that reaches `lower` by its 16-bit score; returns how many such codewords there
  // are, and the position of the last one.
  size_t narrow(size_t row, size_t& position);

  const Kernels& kernels_;
  const PackedCodebook* codebook_ = nullptr;
  bool by_integers_ = false;
  size_t stride_ = 0;  // of panel and of every array of lanes
  AlignedArray<float> panel_;
  AlignedArray<double> squared_norms_;
  std::vector<double> norms_;
  AlignedArray<float> row_slopes_;
  AlignedArray<float> row_constants_;
  // For the 16-bit screen.
  AlignedArray<uint32_t> pairs_;
  AlignedArray<float> multipliers_;
  AlignedArray<float> squared_errors_;
  AlignedArray<float> row_factors_;
  AlignedArray<float> integer_slopes_;
  AlignedArray<float> row_reaches_;
  AlignedArray<float> scores_;
  // For the float32 screen.
  AlignedArray<float> bounds_;
  AlignedArray<float> largest_upper_;
  AlignedArray<float> second_upper_;
  AlignedArray<uint32_t> winners_;
  AlignedArray<float> thresholds_;
  // What either screen writes.
  AlignedArray<float> lower_;
  AlignedArray<float> upper_;
  AlignedArray<Hit> hits_;
  AlignedArray<Shortlist> shortlists_;
};

}  // namespace rvq::cpu
