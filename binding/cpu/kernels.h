// The inner loops of the CPU core: a table of functions, of which every instruction set has its own.
//
// The tables are filled in kernels_<level>.cpp, each compiled for its processor; nothing but plain data crosses this
// border, so that no function compiled for a newer processor can end up in common code.

#pragma once

#include <cstddef>
#include <cstdint>

namespace rvq::cpu {

// Codewords in a group: they lie side by side in a panel of the packed codebook and share one error bound.
inline constexpr size_t kGroupCodewords = 8;

// Partial sums of the canonical distance; every row that a kernel reads is zero-padded to a multiple of this. A padding
// element adds +0 to its sum, which changes nothing.
inline constexpr size_t kSumLanes = 8;

// Rows into the screen's space, one row a lane: panel[i][lane] = float(scale[i] · (rows[lane][i] − centre[i])).
struct PackRows {
  const float* rows;  // [count][row_stride]
  size_t count;       // at most the kernels' tile_rows
  size_t row_stride;
  size_t dim;
  const float* centre;    // [dim]
  const double* scale;    // [dim]
  size_t panel_stride;    // count rounded up to the kernels' lanes; lanes without a row are filled with anything
  float* panel;           // out [dim][panel_stride], 64-byte aligned
  double* squared_norms;  // out [panel_stride], of the panel's columns before they were rounded to float32
};

// The codebook as the screen reads it; binding/cpu/packed_codebook.h says what the numbers mean.
struct PackedCodewords {
  size_t dim;
  const float* panels;           // [groups][dim][kGroupCodewords]
  const float* starts;           // [groups][kGroupCodewords], −½|C|²; far below where there is no codeword
  const float* group_norms;      // [groups]
  const float* group_constants;  // [groups]
};

// Coefficients of a panel's rows along a few axes, in float32 in any order.
struct Projection {
  PackedCodewords axes;  // starts[groups][kGroupCodewords] are zero; without norms
  size_t groups;
  const float* panel;  // [dim][panel_stride], from pack_rows
  size_t panel_stride;
  float* coefficients;  // out [groups · kGroupCodewords][panel_stride]
};

// What a tile's scores S become: upper and lower ends S ± E, of groups that share a bound E = bounds[row].
struct TileEnds {
  const float* bounds;  // [panel_stride]
  float* upper;         // out [last_group − first_group][panel_stride], of the groups
  float* lower;         // in and out [panel_stride], the largest lower end
  float* largest;       // in and out [panel_stride], the largest upper end of a codeword
  float* second;        // in and out [panel_stride], the second largest
  uint32_t* winners;    // in and out [panel_stride], the position of the largest: group · kGroupCodewords + codeword
};

// Scores S = X·C − ½|C|² of rows against the groups first_group … last_group − 1.
struct ScreenTile {
  PackedCodewords codewords;
  size_t first_group;
  size_t last_group;
  const float* panel;   // [dim][panel_stride], from pack_rows
  size_t panel_stride;  // a multiple of the kernels' lanes, at most tile_rows
  TileEnds ends;
};

// The same for one row, codewords in the lanes, with bounds E = row_slopes · group_norm + group_constant +
// row_constants.
struct ScreenRow {
  PackedCodewords codewords;
  size_t first_group;
  size_t last_group;
  const float* panel;  // [dim][panel_stride], from pack_rows
  size_t panel_stride;
  const float* row_slopes;     // [panel_stride]
  const float* row_constants;  // [panel_stride]
  float* upper;                // out [last_group − first_group]
  float* lower;                // in and out [1]
};

// A panel's rows as 16-bit integers, elements 2i and 2i + 1 in the low and the high half of a pair; an odd dimension's
// last element is paired with zero. pairs[i][lane] = nearest(panel[·][lane] · multipliers[lane]).
struct QuantiseRows {
  const float* panel;  // [dim][panel_stride], from pack_rows
  size_t dim;
  size_t panel_stride;
  const float* multipliers;  // [panel_stride]
  uint32_t* pairs;           // out [⌈dim / 2⌉][panel_stride], 64-byte aligned
  float* squared_errors;     // out [panel_stride], Σ (element · multiplier − integer)², each rounded once
};

// What the multiplier of a panel's rows for the 8-bit screen depends on.
struct MeasureBytes {
  const float* panel;  // [dim][panel_stride], from pack_rows
  size_t dim;
  size_t panel_stride;
  float* largest;       // out [panel_stride], the largest |element|
  float* half_squares;  // out [panel_stride], the largest squared norm of a half of a block; 0 without blocks
};

// A panel's rows as bytes, elements 4i … 4i + 3 in the bytes of a word from the lowest on; elements past the last are
// 0.
struct QuantiseBytes {
  const float* panel;  // [dim][panel_stride], from pack_rows
  size_t dim;
  size_t panel_stride;
  const float* multipliers;  // [panel_stride]
  uint32_t* words;           // out [⌈dim / 4⌉][panel_stride], 64-byte aligned
  uint32_t* row_starts;      // out [blocks][panel_stride], what sums start at: in 32 bits, or two halves of 16
  float* squared_errors;     // as in QuantiseRows
};

// The codebook as an integer screen reads it; binding/cpu/integer_bound.h and byte_bound.h say what the numbers mean.
struct IntegerCodewords {
  size_t words;                  // ⌈dim / 2⌉ pairs of 16 bits, or ⌈dim / 4⌉ quadruples of bytes
  const uint32_t* panels;        // [groups][words][kGroupCodewords]
  const float* starts;           // as in PackedCodewords
  const float* factors;          // 1/b: [groups] in 16 bits, [groups][kGroupCodewords] in 8
  const float* group_norms;      // [groups]
  const float* group_errors;     // [groups], ε_k
  const float* group_constants;  // [groups]
};

// Scores in integers. With the bound E = row_slopes · group_norm + row_reaches · group_error + group_constant +
// row_constants and G the group's best score: upper = G + E, lower = max(lower, G − E).
struct IntegerTile {
  IntegerCodewords codewords;
  size_t first_group;
  size_t last_group;
  const uint32_t* panel;  // [words][panel_stride], from quantise_rows or quantise_bytes
  size_t panel_stride;
  const uint32_t* row_starts;  // from quantise_bytes; unused in 16 bits
  const float* row_factors;    // [panel_stride], 1/a
  const float* row_slopes;     // [panel_stride]
  const float* row_reaches;    // [panel_stride]
  const float* row_constants;  // [panel_stride]
  float* upper;                // out [last_group − first_group][panel_stride]
  float* lower;                // in and out [panel_stride]
  float* scores;               // out [last_group − first_group][kGroupCodewords][panel_stride]
};

// −½|C|² in units of one product of integers: integers[i] = nearest(starts[i] · unit), the smallest one where that does
// not fit.
struct IntegerStarts {
  const float* starts;  // [count], a multiple of kGroupCodewords
  size_t count;
  float unit;
  int32_t* integers;  // out [count]
};

// Scores in integers that rows and codewords share one multiplier each for: binding/cpu/uniform_bound.h. They stay
// integers to the argmin.
struct UniformTile {
  IntegerCodewords codewords;
  const int32_t* starts;  // [last_group − first_group][kGroupCodewords], from integer_starts
  size_t first_group;
  size_t last_group;
  const uint32_t* panel;  // [words][panel_stride], from quantise_rows with one multiplier
  size_t panel_stride;
  float factor;  // a score's value is this times its integer
  TileEnds ends;
};

// The scores of an IntegerTile for a few rows, codewords in the lanes.
struct IntegerRows {
  IntegerCodewords codewords;
  size_t first_group;
  size_t last_group;
  const uint32_t* panel;  // [words][panel_stride], as in IntegerTile
  size_t panel_stride;
  size_t count;  // of rows, at most panel_stride
  const uint32_t* row_starts;
  const float* row_factors;
  const float* row_slopes;
  const float* row_reaches;
  const float* row_constants;
  float* upper;         // out [count][upper_stride], of the groups' codewords
  size_t upper_stride;  // at least (last_group − first_group) · kGroupCodewords
  float* lower;         // in and out [count]
};

// The 16-bit screen's kernels, with the lanes and tile rows of the level's other kernels.
struct IntegerKernels {
  // From how many dimensions on it is faster than the level's float32 screen, for any number of codewords: with one
  // multiplier for all, and with one a row and a group, where in shorter rows the conversion of the sums costs more
  // than the products save.
  size_t fewest_uniform_dims;
  size_t fewest_dims;
  void (*quantise_rows)(const QuantiseRows&);
  void (*screen_tile)(const IntegerTile&);
  void (*screen_rows)(const IntegerRows&);
  void (*integer_starts)(const IntegerStarts&);
  void (*screen_uniform)(const UniformTile&);
#ifdef RVQ_TESTING
  void (*best_groups)(const IntegerTile&, float* groups);  // see MeasuringKernels
#endif
};

// What decides whether the 8-bit screen pays (screen_trial.h): clock cycles, measured.
struct ByteCosts {
  double share;          // of the time that float32 takes
  double saved;          // of what 16 bits take, for a row, a codeword and a dimension
  double hit;            // a place where a group reaches up to a row's best lower bound
  double candidate;      // a codeword that is left to its distance,
  double candidate_dim;  // and a dimension of it
};

// The 8-bit screen's kernels, likewise.
struct ByteKernels {
  // From how many dimensions on it can be faster than the 16-bit screen.
  size_t fewest_dims;
  ByteCosts costs;
  int largest;         // L of binding/cpu/byte_bound.h
  size_t block_words;  // words after which sums of 16 bits are widened; 0 where sums are of 32 bits
  void (*measure)(const MeasureBytes&);
  void (*quantise_rows)(const QuantiseBytes&);
  void (*screen_tile)(const IntegerTile&);
  void (*screen_rows)(const IntegerRows&);  // null where sums are of 16 bits
};

// One place where a group reaches up to a row's best lower bound.
struct Hit {
  uint32_t group;  // counted from first_group
  uint32_t row;
};

// The nearest codeword by the canonical distance among `count` of them, in the order given.
struct ScanCodewords {
  const float* row;  // [padded_dim]
  size_t padded_dim;
  const float* codewords;  // [K][padded_dim]
  const float* weights;    // [padded_dim] or null
  const uint32_t* order;   // [count], ascending
  size_t count;
  double best_distance;  // what there is to beat: +infinity and code 0, or a candidate's
  uint32_t best_code;
};

// Those of a row's candidates that can be the nearest, by float32 distances; binding/cpu/near_bound.h says how sure
// they are.
struct NearCodewords {
  const float* row;  // [padded_dim]
  size_t padded_dim;
  const float* codewords;  // [K][padded_dim]
  float widening;          // from near_bound.h
  float underflow;
  size_t count;          // of candidates
  uint32_t* candidates;  // in and out
  float* distances;      // scratch [count]
};

struct DecodeRows {
  const float* const* codewords;  // [count][stages], each [padded_dim]
  size_t count;
  size_t stages;
  size_t dim;
  float* rows;  // out [count][dim]
};

// Outputs of a linear map that lie side by side in a panel of its packed weights.
inline constexpr size_t kPanelOutputs = 8;

// Sums of a linear map for a few rows, each in float64, sequential in i from the bias on. A product of two float32 is
// exact in float64, so that fused and separate multiply-adds give the same bits.
struct ProjectRows {
  const double* rows;  // [count][row_stride]
  size_t count;        // at most the kernels' projected_rows
  size_t row_stride;
  size_t in_dim;
  const float* panel;  // [in_dim][kPanelOutputs]
  const double* bias;  // [kPanelOutputs]
  double* sums;        // out [count][kPanelOutputs]
};

#ifdef RVQ_TESTING
// What only benchmarks run.
struct MeasuringKernels {
  // The screen without bounds and with the argmin in registers: lower[tile_rows] holds every row's best score so far,
  // groups[tile_rows] its group. Nothing else of the tile is touched; its panel_stride is tile_rows.
  void (*best_groups)(const ScreenTile&, float* groups);
};
#endif

struct Kernels {
  const char* name;
  size_t lanes;      // rows in one register
  size_t tile_rows;  // rows that one pass over the codebook serves

  // The screen: float32, any order, fused where the processor fuses. Its error is bounded in binding/cpu/error_bound.h.
  void (*pack_rows)(const PackRows&);
  void (*screen_tile)(const ScreenTile&);
  void (*screen_row)(const ScreenRow&, size_t row);
  // Scores of one group for one row of a panel: scores[kGroupCodewords].
  void (*score_group)(const PackedCodewords&, size_t group, const float* panel, size_t panel_stride, size_t row,
                      float* scores);
  void (*project)(const Projection&);
  // Writes the hits of `groups` groups, at most groups · panel_stride of them, and returns how many.
  size_t (*collect)(const float* upper, const float* lower, size_t groups, size_t panel_stride, Hit* hits);

  // The canonical arithmetic: the same bits on every level. weights may be null.
  // d64(x, c); or, once it is clear that this is above the limit, anything else above the limit.
  double (*distance)(const float* x, const float* c, const float* weights, size_t padded_dim, double limit);
  uint32_t (*scan)(const ScanCodewords&);
  // Moves the candidates that can be the nearest to the front and returns how many they are.
  size_t (*keep_near)(const NearCodewords&);
  // |x − c|² in float32, any order, fused where the processor fuses.
  float (*rough_distance)(const float* x, const float* c, size_t dim);
  // unit[padded_dim] = row / |row|; false, and nothing written, where the row is all zero.
  bool (*unit_row)(const float* row, size_t padded_dim, float* unit);
  // The first element that is NaN or infinite, or `count`.
  size_t (*first_not_finite)(const float* elements, size_t count);
  // row −= codeword, element by element.
  void (*subtract)(float* row, const float* codeword, size_t padded_dim);
  void (*decode_rows)(const DecodeRows&);
  // sums[i] += roundHalfEven(row[i] · inverse_grids[i]), |row[i] · inverse_grids[i]| ≤ 2^51.
  void (*add_rounded)(double* sums, const float* row, size_t dim, const double* inverse_grids);

  size_t projected_rows;  // rows whose sums stay in registers
  void (*project_rows)(const ProjectRows&);
  // wide[count] = narrow[count]
  void (*widen)(const float* narrow, size_t count, double* wide);

  // Null where the level has no integer products that beat its float32 multiply-adds.
  const IntegerKernels* integers;
  // Null where bytes do not beat 16 bits.
  const ByteKernels* bytes;
  // So many rounds of multiply-adds in registers, as fast as the processor can; returns something that depends on them.
  float (*multiply_adds)(size_t rounds);
  size_t multiply_adds_per_round;
#ifdef RVQ_TESTING
  const MeasuringKernels* measuring;
#endif
};

#if defined(__x86_64__) || defined(_M_X64)
extern const Kernels kAvx512VnniKernels;
extern const Kernels kAvx512Kernels;
extern const Kernels kAvx2Kernels;
#endif
#if defined(__aarch64__)
extern const Kernels kNeonKernels;
#endif
extern const Kernels kPortableKernels;

}  // namespace rvq::cpu
