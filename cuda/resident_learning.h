// The operations of learning on rows that stay on the device.

#pragma once

#include <cstddef>
#include <cstdint>

#include "codebooks.h"
#include "moving_average.h"
#include "resident.h"
#include "row_stream.h"
#include "search.h"

namespace rvq::cuda {

// largest[i] = max(largest[i], |vectors[n][i]|) over the rows; NaN raises nothing.
class ResidentMagnitudes final : public RowOperation {
 public:
  // `vectors`: device [count][dim]; `largest`: in and out, host [dim].
  ResidentMagnitudes(const float* vectors, size_t count, size_t dim, float* largest)
      : vectors_(vectors), count_(count), dim_(dim), largest_(largest) {}

  size_t count() const override { return count_; }
  size_t row_bytes() const override { return 0; }
  PieceMemory memory(size_t) const override { return {dim_ * sizeof(float), dim_ * sizeof(float)}; }
  void submit(size_t first, size_t rows, Lane& lane) override;
  bool finish(size_t first, size_t rows, Lane& lane) override;

 private:
  const float* const vectors_;
  const size_t count_;
  const size_t dim_;
  float* const largest_;
};

// The same of the codewords of every stage: `largest`: out, host [stages][dim].
ResidentOutcome codeword_magnitudes(const Codebooks& codebooks, float* largest);

// Rows with their codes, and what a stage says of them: the codeword c of row x is that of its code.
struct CodedRows {
  const float* vectors;            // device [count][dim]: what the stage quantizes
  size_t count;                    // below 2^30
  DeviceCodes codes;               // device [count][code_stages]
  size_t code_stages;              // all stages of the step
  size_t stage;                    // of the codebooks, and the column of `codes`
  const uint16_t* stages_of_row;   // device, as of CountedRows; of k-means null
  const double* distances_before;  // the same
  double* distances;               // out, device [count]: d64(x, c), weighted where there are weights
  double* plain_distances;         // out, device [count], the same without weights; null where there are none
  float* residuals;                // out, device [count][dim] or null; may be `vectors`; of k-means null
  const int32_t* grid_exponents;   // host [dim]
};

// A stage of a step of learning, from the codes of its rows to its codewords after the step.
struct ResidentLearnRequest {
  CodedRows rows;
  double decay;
  double epsilon;
  bool encodec;
  bool unused;
  double* usage;        // in and out, device [num_codewords]
  double* averages;     // in and out, device [num_codewords][dim]
  double* masses;       // out, host [num_codewords]: rows of each codeword
  double* usage_after;  // out, host [num_codewords]
  StageErrors* errors;  // out, host [1]
};
// Changes the codewords of the stage, which are to be packed again before the next search.
ResidentOutcome learn_resident(Codebooks& codebooks, const ResidentLearnRequest& request);

// The end of an iteration of k-means, from the codes of its rows to codewords that are their means.
struct ResidentMeansRequest {
  CodedRows rows;
  // The codes of the iteration before, of the same shape and width, under which the rows are in the sums; else null.
  void* previous;
  double shrinkage;
  long long* counts;     // in and out, device [num_codewords]; without `previous` they start from zero, as the sums do
  long long* sums;       // in and out, device [num_codewords][dim]
  double* counts_after;  // out, host [num_codewords]: the counts
  double* error;         // out, host [1]: Σ of the distances without weights, as of StageErrors
  double* moved;         // out, host [1]: rows whose code is another than before; without `previous` all
};
// As learn_resident.
ResidentOutcome means_resident(Codebooks& codebooks, const ResidentMeansRequest& request);

// Draws of k-means++ (seeding.h) that go on where others of the same rows have ended.
struct ResidentSeedingRequest {
  const float* vectors;  // device [count][dim]
  size_t count;          // 1 … 2^30 − 1
  size_t dim;
  const float* weights;     // host [dim] or null
  double* distances;        // in and out, device [count]
  bool fresh;               // these are the first
  uint32_t last;            // the row that was drawn last, below count
  const double* fractions;  // host [draws], each in [0, 1)
  size_t draws;
  uint32_t* rows;  // out, host [draws]; kNoRow from where on all distances are zero
};
ResidentOutcome draw_resident(int device, const ResidentSeedingRequest& request);

}  // namespace rvq::cuda
