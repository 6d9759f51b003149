// Counts and sums of the vectors of every codeword, for rows in host memory.

#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>

#include "device_memory.h"
#include "host_search.h"
#include "row_stream.h"

namespace rvq::cuda {

struct HostAccumulateRequest {
  const float* vectors;   // [count][dim]
  const float* resident;  // the same rows on the device, or null: they are not copied then
  size_t count;
  size_t dim;
  HostCodes codes;  // [count]
  // [count], where the rows are in the statistics already: the codes under which they are.
  std::optional<HostCodes> previous;
  size_t num_codewords;
  const int32_t* grid_exponents;  // [dim]
  double* counts;                 // in and out [num_codewords]
  double* sums;                   // in and out [num_codewords][dim]
};

// The integers are added up on the device over all pieces and then added to the host's numbers; or, where there are
// more codewords than rows to fill them or than memory for them, piece by piece for the codewords that the piece has.
class HostAccumulate final : public RowOperation {
 public:
  explicit HostAccumulate(const HostAccumulateRequest& request);

  size_t count() const override { return request_.count; }
  size_t row_bytes() const override;
  PieceMemory memory(size_t rows) const override;
  void begin(Lane& lane) override;
  void submit(size_t first, size_t rows, Lane& lane) override;
  bool finish(size_t first, size_t rows, Lane& lane) override;
  void end(Lane& lane) override;

  // A code had no codeword; what was added is then incomplete.
  bool code_out_of_range() const { return out_of_range_; }

 private:
  struct Places;
  Places places(size_t rows) const;
  size_t most_used_of(size_t rows) const;
  void add_few(const Places& at, Lane& lane);

  const HostAccumulateRequest request_;
  bool few_;
  DeviceArray<long long> counts_;  // [num_codewords], unless few_
  DeviceArray<long long> sums_;    // [num_codewords][dim], unless few_
  bool out_of_range_ = false;
};

// to[i] += from[i], integers, through all of the lane's pinned memory; `from` is device memory that no stream writes
// to.
void add_from_device(const long long* from, size_t length, double* to, Lane& lane);

}  // namespace rvq::cuda
