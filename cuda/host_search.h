// Searches for rows in host memory: encode and the assignment step of k-means.

#pragma once

#include <cstddef>
#include <optional>

#include "codebooks.h"
#include "row_stream.h"
#include "search.h"

namespace rvq::cuda {

// A code array in host memory: uint16_t or uint32_t elements.
struct HostCodes {
  void* data;
  bool wide;

  size_t bytes_each() const { return wide ? 4 : 2; }
  char* at(size_t element) const { return static_cast<char*>(data) + element * bytes_each(); }
};

struct BadInput {
  bool zero;  // a row of zeros with the cosine metric, else an element that is not finite
  size_t row;
  size_t column;
};

// Of what encode() has left in `bad`, for rows from `first_row` on.
inline std::optional<BadInput> bad_input_of(unsigned long long bad, size_t dim, size_t first_row) {
  if (bad == kNothingBad) return std::nullopt;
  return BadInput{bad % 2 == 1, first_row + bad / 2 / dim, bad / 2 % dim};
}

struct HostEncodeRequest {
  const float* vectors;  // [count][dim]
  bool pinned;           // the vectors are in pinned memory
  size_t count;
  size_t stages;
  HostCodes codes;   // out [count][stages]
  float* residuals;  // out [count][dim] or null; may be `vectors`
};

class HostEncode final : public RowOperation {
 public:
  HostEncode(const Codebooks& codebooks, const HostEncodeRequest& request) : codebooks_(codebooks), request_(request) {}

  size_t count() const override { return request_.count; }
  size_t row_bytes() const override;
  PieceMemory memory(size_t rows) const override;
  void submit(size_t first, size_t rows, Lane& lane) override;
  bool finish(size_t first, size_t rows, Lane& lane) override;

  // After the call: the first bad element of all; the outputs are then unspecified.
  const std::optional<BadInput>& bad_input() const { return bad_; }

 private:
  struct Places;
  Places places(size_t rows) const;

  const Codebooks& codebooks_;
  const HostEncodeRequest request_;
  std::optional<BadInput> bad_;
};

struct HostAssignRequest {
  const float* vectors;  // [count][dim], finite; with the cosine metric none is zero
  size_t count;
  // The same rows on the device, or null: they are not copied then.
  const float* resident;
  HostCodes codes;          // out [count]
  double* distances;        // out [count], weighted where there are weights
  double* plain_distances;  // out [count] without weights, or null
};

// Over the first stage.
class HostAssign final : public RowOperation {
 public:
  HostAssign(const Codebooks& codebooks, const HostAssignRequest& request) : codebooks_(codebooks), request_(request) {}

  size_t count() const override { return request_.count; }
  size_t row_bytes() const override;
  PieceMemory memory(size_t rows) const override;
  void submit(size_t first, size_t rows, Lane& lane) override;
  bool finish(size_t first, size_t rows, Lane& lane) override;

 private:
  struct Places;
  Places places(size_t rows) const;

  const Codebooks& codebooks_;
  const HostAssignRequest request_;
};

}  // namespace rvq::cuda
