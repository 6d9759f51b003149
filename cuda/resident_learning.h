// The operations of a step of learning on rows that stay on the device; what they find comes to the host.

#pragma once

#include <cstddef>

#include "codebooks.h"
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

struct ResidentPassOnRequest {
  const float* vectors;  // device [count][dim]
  size_t count;
  DeviceCodes codes;  // device [count][code_stages]
  size_t code_stages;
  size_t stage;             // of the codebooks, and the column of `codes`
  double* distances;        // out, host [count], weighted where there are weights
  double* plain_distances;  // out, host [count], the same without weights, or null
  float* residuals;         // out, device [count][dim] or null; may be `vectors`
};

// Distances of rows to their codewords of a stage, and what these leave over.
class ResidentPassOn final : public RowOperation {
 public:
  ResidentPassOn(const Codebooks& codebooks, const ResidentPassOnRequest& request)
      : codebooks_(codebooks), request_(request) {}

  size_t count() const override { return request_.count; }
  size_t row_bytes() const override;
  PieceMemory memory(size_t rows) const override;
  void submit(size_t first, size_t rows, Lane& lane) override;
  bool finish(size_t first, size_t rows, Lane& lane) override;

  // A code had no codeword; what was written is then unspecified.
  bool code_out_of_range() const { return out_of_range_; }

 private:
  struct Places;
  Places places(size_t rows) const;

  const Codebooks& codebooks_;
  const ResidentPassOnRequest request_;
  bool out_of_range_ = false;
};

}  // namespace rvq::cuda
