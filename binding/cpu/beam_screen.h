// Finds, for the hypotheses of a few vectors, the children that can be among a vector's n nearest: scores with a proven
// error bound.
//
// error_bound.h and integer_bound.h bound a score S of the screen's space so that Ŝ ± E encloses what decides between
// codewords for one row. Here rows compete too. With V = S − ½|X|² = −½|X − C|² the nearest child of all is the one
// with the largest V. What E counts for the canonical distance, order·½(ρ + n)², is a share of ½|X − C|² and thus holds
// between rows as well. The squared norm |X|² is a float64 sum of D squares of elements that were rounded three times:
// off by (D + 8)·2^-53 of itself, and V is rounded twice more. So with δ = (D + 32)·2^-53·½(ρ + 1)², a codeword's norm
// being at most 1,
//   lower = Ŝ − E − ½|X|² − δ and upper = Ŝ + E − ½|X|² + δ
// enclose what decides between children: a lower end above another's upper end is a smaller canonical distance. A child
// whose upper end is below n lower ends of others is not among the n nearest; all others are candidates.
//
// The kernels write the upper ends of groups of codewords, and E has room for their rounding and more. So upper − 2·E
// is a lower end as well: of one child in each group. The n-th largest of the best few of all hypotheses is a
// threshold that leaves little more than n groups to look into.

#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "aligned_array.h"
#include "kernels.h"
#include "packed_codebook.h"

namespace rvq::cpu {

// The scratch memory of one thread.
class BeamScreen {
 public:
  struct Candidate {
    double upper;
    uint32_t row;
    uint32_t code;
  };

  // For at most max_vectors vectors with max_rows hypotheses together, of which n children are kept.
  BeamScreen(const Kernels& kernels, size_t max_vectors, size_t max_rows, size_t beam, size_t padded_dim,
             size_t max_groups);

  // rows[first_rows[vectors]][padded_dim]; those of vector v are first_rows[v] … first_rows[v + 1] − 1, first_rows[0]
  // being 0.
  void run(const PackedCodebook& codebook, const float* rows, size_t padded_dim, const uint32_t* first_rows,
           size_t vectors);

  // Of the last run: what can be among a vector's n nearest children, in no particular order; a row that is not finite
  // has none. Null where all children can.
  const std::vector<Candidate>* candidates(size_t vector);

 private:
  // What is known of a vector.
  struct Open {
    bool all;
    double threshold;           // at most the n-th largest lower end
    std::vector<double> lower;  // the largest lower ends, in falling order
    std::vector<Candidate> candidates;
  };

  enum class Precision { kFloat32, kInt16, kUniform };

  void screen_tile(const float* rows, size_t count, size_t padded_dim, size_t first_row, const uint32_t* first_rows);
  // Each writes the groups' upper ends, and bounds_, at least E of every group.
  void screen_groups(Precision precision, size_t first, size_t last);
  void screen_float32(size_t first, size_t last);
  void screen_integers(size_t first, size_t last);
  void screen_uniform(size_t first, size_t last);
  void bound_rows(size_t count, size_t first_row);
  void quantise_rows();
  void quantise_panel();
  // False where rows are too far away for it.
  bool quantise_uniform(size_t count);
  // Raises the thresholds of the vectors with rows in the tile by the best of `groups` groups, and sets the lanes'.
  void raise_thresholds(Precision precision, size_t groups, size_t count, size_t first_row, const uint32_t* first_rows);
  // best_[j][lane] = the (j + 1)-th largest upper end of `groups` groups, for j < places.
  void find_best(size_t groups, size_t places);
  float lane_threshold(size_t lane, double threshold) const;
  void add_group(Precision precision, size_t lane, size_t row, size_t group, size_t first_group);
  void add(Open& open, size_t lane, size_t row, size_t position, float score, float bound);
  void drop_late(Open& open) const;
  TileEnds tile_ends(float* upper);

  const Kernels& kernels_;
  size_t beam_;
  const PackedCodebook* codebook_ = nullptr;
  size_t stride_ = 0;
  std::vector<Open> open_;        // [max_vectors]
  std::vector<uint32_t> owners_;  // [max_rows], the rows' vectors
  std::vector<double> ends_;      // lower ends of the vector at hand
  std::vector<char> screened_;    // of a tile's lanes, as all that follows
  std::vector<double> norms_;
  std::vector<double> half_squares_;
  std::vector<double> slacks_;
  AlignedArray<float> panel_;
  AlignedArray<double> squared_norms_;
  AlignedArray<float> row_slopes_;
  AlignedArray<float> row_constants_;
  AlignedArray<float> bounds_;
  AlignedArray<float> largest_upper_;  // what the float32 kernel keeps for a search of the nearest
  AlignedArray<float> second_upper_;
  AlignedArray<uint32_t> winners_;
  AlignedArray<float> thresholds_;
  AlignedArray<float> lower_;
  AlignedArray<float> upper_;
  AlignedArray<Hit> hits_;
  AlignedArray<float> best_;  // [kMostPlaces][stride]
  // For 16-bit integers.
  AlignedArray<uint32_t> pairs_;
  AlignedArray<float> multipliers_;
  AlignedArray<float> squared_errors_;
  AlignedArray<float> row_factors_;
  AlignedArray<float> integer_slopes_;
  AlignedArray<float> row_reaches_;
  AlignedArray<float> scores_;
  AlignedArray<int32_t> integer_starts_;
  double uniform_unit_ = 0;  // ab of uniform_bound.h
};

}  // namespace rvq::cpu
