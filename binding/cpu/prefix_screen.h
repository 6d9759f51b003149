// Finds the few codewords that can be nearest by the coefficients along the principal axes, and settles them one by
// one.

#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "aligned_array.h"
#include "kernels.h"
#include "packed_codebook.h"
#include "prefix_codebook.h"

namespace rvq::cpu {

// Rows in the screen's space, as the screen has packed them.
struct PackedRowsView {
  const float* rows;  // [count][padded_dim], what was packed
  size_t count;
  const float* panel;  // [dim][panel_stride]
  size_t panel_stride;
  const double* norms;          // [panel_stride], upper bounds; zero for lanes that are not to be looked at
  const double* squared_norms;  // [panel_stride]
};

// The scratch memory of one thread.
class PrefixScreen {
 public:
  PrefixScreen(const Kernels& kernels, size_t max_rows, size_t max_groups);

  // False where this does not pay: more codewords stay open than it pays to look at, or did lately; then nothing is
  // known about any row.
  bool run(const PackedCodebook& packed, const PrefixCodebook& codebook, const PackedRowsView& rows);

  // The codewords that can be nearest to a row of the last run, by code, at least one; nothing where there are too
  // many.
  void candidates(size_t row, std::vector<uint32_t>& codes) const;

 private:
  // What is known about a row: its nearest codeword is not further than `nearest`, a canonical distance, and among
  // those listed, unless there are too many.
  struct Row {
    static constexpr uint32_t kCapacity = 16;
    struct Entry {
      uint32_t position;
      double lower;  // the canonical distance is not smaller
    };
    double nearest;
    uint32_t size;
    bool too_many;
    Entry entries[kCapacity];
  };

  void prepare_rows();
  bool screen_chunk(size_t first_group, size_t last_group);
  void look_at_group(size_t row, size_t group);
  void look_at(size_t row, size_t position);
  float bound(size_t row, float norm) const;
  void score(size_t row, size_t group, float (&upper)[kGroupCodewords]) const;

  const Kernels& kernels_;
  const PackedCodebook* packed_ = nullptr;
  const PrefixCodebook* codebook_ = nullptr;
  PackedRowsView view_{};
  AlignedArray<float> coefficients_;  // [axes + 1][panel_stride]
  AlignedArray<float> slopes_;
  AlignedArray<float> constants_;
  // Of the chunk at hand, by class of norms; see ScreenTile.
  AlignedArray<float> bounds_;
  AlignedArray<float> lower_;
  AlignedArray<float> largest_;
  AlignedArray<float> second_;
  AlignedArray<uint32_t> winners_;  // kNowhere where no codeword of the chunk was looked at first
  AlignedArray<float> limits_;      // a codeword whose upper bound is below this is not the nearest
  AlignedArray<float> upper_;       // [groups of a chunk][panel_stride]
  AlignedArray<Hit> hits_;
  AlignedArray<Row> rows_;
  double spent_ = 0;  // clock cycles, about
};

}  // namespace rvq::cpu
