// The operations of a step of learning on rows that stay on the device.

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

// A stage of a step of learning, from the codes of its rows to its codewords after the step.
struct ResidentLearnRequest {
  const float* vectors;            // device [count][dim]: what the stage quantizes
  size_t count;                    // below 2^30
  DeviceCodes codes;               // device [count][code_stages]
  size_t code_stages;              // all stages of the step
  size_t stage;                    // of the codebooks, and the column of `codes`
  const uint16_t* stages_of_row;   // device, as of CountedRows
  const double* distances_before;  // device, as of CountedRows
  double* distances;               // out, device [count], weighted where there are weights
  double* plain_distances;         // out, device [count], the same without weights; null where there are none
  float* residuals;                // out, device [count][dim] or null; may be `vectors`
  const int32_t* grid_exponents;   // host [dim]
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

}  // namespace rvq::cuda
