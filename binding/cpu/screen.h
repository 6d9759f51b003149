// Finds, for a block of rows, the few codewords that can be nearest: scores with a proven error bound, from integers of
// 8 or 16 bits where the codebook has them.

#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "aligned_array.h"
#include "kernels.h"
#include "packed_codebook.h"
#include "prefix_codebook.h"
#include "prefix_screen.h"

namespace rvq::cpu {

// What the screen knows about a row. `kCandidates`: the answer is one of those listed; a single one is certain.
// `kNotFinite`: the row holds NaN or infinity. `kUnknown`: too many candidates, or a row the float32 range cannot hold.
enum class Verdict { kCandidates, kNotFinite, kUnknown };

// The scratch memory of one thread; used for one block and one stage after the other.
class Screen {
 public:
  // For blocks of at most max_rows ≤ kernels.tile_rows rows of dimension dim, and codebooks of at most max_groups.
  Screen(const Kernels& kernels, size_t max_rows, size_t dim, size_t max_groups);

  // rows[count][padded_dim] against a stage's codewords; prefix: may be null.
  void run(const PackedCodebook& codebook, const PrefixCodebook* prefix, const float* rows, size_t count,
           size_t padded_dim);

  // Fetches what will be read of codewords[…][padded_dim] if the row's candidates must be told apart.
  void prefetch(size_t row, const float* codewords, size_t padded_dim) const;

  // The verdict on a row of the last run; its candidates' codes in no particular order.
  Verdict verdict(size_t row, std::vector<uint32_t>& candidates);

 private:
  enum class Precision { kInt16, kInt8 };

  // Groups screened before their hits are collected: the upper ends of 48 rows then take 192 KiB, written once and
  // mostly not read.
  static constexpr size_t kChunkGroups = 1024;
  // The integer screens keep all scores of a chunk: 96 KiB for 48 rows.
  static constexpr size_t kIntegerChunkGroups = 64;

  // The codewords that may be a row's nearest, one by one from an integer screen, by whole groups from float32.
  struct Shortlist {
    // Beyond, a scan of all codewords costs less.
    static constexpr size_t kCapacity = 64;
    struct Entry {
      uint32_t position;   // the first of
      uint32_t codewords;  // one, or a group
      float upper;         // of all of them
    };
    Verdict verdict;
    uint32_t size;
    Entry entries[kCapacity];
  };

  void bound_rows(size_t count);
  void screen_float32(size_t count);
  void screen_classes(size_t first, size_t last);
  void screen_float32_row(size_t row);
  void forget_ends();
  TileEnds tile_ends(size_t group);
  // Lists, for every row, what of the groups' codewords is within reach; returns how many groups of rows that are not
  // settled.
  size_t note_groups(size_t first, size_t last, size_t count);
  void add(size_t row, size_t position, size_t codewords, float upper);
  // Drops entries that the row's lower bound has risen above since they came.
  void drop_late(size_t row);

  // In screen_integers.cpp. False: not done, because it does not pay.
  bool run_int16(size_t count);
  bool run_uniform(size_t count);
  bool run_int8(size_t count);
  // False where rows are too far away for it.
  bool quantise_uniform(const UniformCodewords& codewords, size_t count);
  // Returns what the groups cost that it leaves open, and gives up once that is more than `most`.
  double screen_uniform(size_t count, double most);
  // Ends a screen on trial and returns whether it paid: the rows that it leaves too many codewords of go by float32, or
  // else all rows start again.
  bool finish(size_t count, bool pays);
  void quantise_rows();
  void quantise_bytes();
  void bound_integers(const IntegerBound& bound);
  // For up to half a register of rows it is faster to put the codewords in the lanes.
  bool few_for_integers(size_t count) const { return 2 * count <= kernels_.lanes; }
  // Both return what looking at the places within reach of a row costs, and give up once that is more than `most`.
  double screen_integers(size_t count, Precision precision, double most);
  double screen_integer_tile(size_t count, Precision precision, double most);
  double screen_integer_rows(size_t count, Precision precision);
  // Adds those codewords of a group that reach the row's lower bound by their scores in an integer tile.
  void add_codewords(size_t row, size_t group, const IntegerCodewords& view, const float* scores);
  IntegerCodewords integer_view(Precision precision) const;

  const Kernels& kernels_;
  const PackedCodebook* codebook_ = nullptr;
  size_t stride_ = 0;  // of panel and of every array of lanes
  AlignedArray<float> panel_;
  AlignedArray<double> squared_norms_;
  std::vector<double> norms_;
  AlignedArray<float> row_slopes_;
  AlignedArray<float> row_constants_;
  // For the integer screens.
  AlignedArray<uint32_t> words_;
  AlignedArray<uint32_t> row_starts_;
  AlignedArray<float> largest_;
  AlignedArray<float> half_squares_;
  std::vector<size_t> rows_again_;  // that integers leave too many candidates
  AlignedArray<int32_t> integer_starts_;
  double uniform_unit_ = 0;  // ab of uniform_bound.h
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
  // What every screen writes.
  AlignedArray<float> lower_;
  AlignedArray<float> upper_;
  AlignedArray<Hit> hits_;
  AlignedArray<Shortlist> shortlists_;
  bool by_prefix_ = false;
  PrefixScreen prefix_screen_;
};

}  // namespace rvq::cpu
