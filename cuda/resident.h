// Operations on arrays that stay on the device.

#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>

#include "codebooks.h"
#include "device_memory.h"
#include "host_search.h"
#include "row_stream.h"
#include "search.h"

namespace rvq::cuda {

// Copies an array in host memory to the device or back, through the pinned memory of lanes unless it is in such memory
// itself.
class HostCopy final : public RowOperation {
 public:
  enum class Direction { kToDevice, kFromDevice };

  HostCopy(Direction direction, void* device, void* host, size_t bytes, bool pinned)
      : direction_(direction),
        device_(static_cast<char*>(device)),
        host_(static_cast<char*>(host)),
        bytes_(bytes),
        pinned_(pinned) {}

  size_t count() const override { return (bytes_ + kBlock - 1) / kBlock; }
  size_t row_bytes() const override { return kBlock; }
  PieceMemory memory(size_t rows) const override { return {pinned_ ? 0 : rows * kBlock, 0}; }
  void submit(size_t first, size_t rows, Lane& lane) override;
  bool finish(size_t first, size_t rows, Lane& lane) override;

 private:
  // A row of this operation, in bytes; the last may be shorter.
  static constexpr size_t kBlock = 512;

  size_t length(size_t first, size_t rows) const;

  const Direction direction_;
  char* const device_;
  char* const host_;
  const size_t bytes_;
  const bool pinned_;
};

// gathered[i] = vectors[rows[i]].
class ResidentGather final : public RowOperation {
 public:
  // `vectors`: device [count][dim]; `rows`: host [wanted]; `gathered`: out, host [wanted][dim].
  ResidentGather(const float* vectors, size_t count, size_t dim, const uint32_t* rows, size_t wanted, float* gathered)
      : vectors_(vectors), vectors_count_(count), dim_(dim), rows_(rows), wanted_(wanted), gathered_(gathered) {}

  size_t count() const override { return wanted_; }
  size_t row_bytes() const override { return sizeof(uint32_t) + dim_ * sizeof(float); }
  PieceMemory memory(size_t rows) const override;
  void submit(size_t first, size_t rows, Lane& lane) override;
  bool finish(size_t first, size_t rows, Lane& lane) override;

  // A number of `rows` is not below `count`; what was gathered is then incomplete.
  bool row_out_of_range() const { return out_of_range_; }

 private:
  struct Places;

  const float* const vectors_;
  const size_t vectors_count_;
  const size_t dim_;
  const uint32_t* const rows_;
  const size_t wanted_;
  float* const gathered_;
  bool out_of_range_ = false;
};

// What came of a call, besides what it wrote.
struct ResidentOutcome {
  std::optional<BadInput> bad;     // the outputs are then unspecified
  bool code_out_of_range = false;  // the same
  float kernel_ms = 0;             // from the first kernel's start to the last one's end, by the device's clock
};

struct ResidentEncodeRequest {
  const float* vectors;  // device [count][dim]
  size_t count;          // below 2^30
  size_t stages;
  DeviceCodes codes;  // out, device [count][stages]
  float* residuals;   // out, device [count][dim] or null; may be `vectors`
  bool pack;          // the codewords have changed
};
ResidentOutcome encode_resident(Codebooks& codebooks, const ResidentEncodeRequest& request);

struct ResidentDecodeRequest {
  DeviceCodes codes;  // device [count][code_stages]
  size_t count;       // below 2^30
  size_t code_stages;
  size_t stages;
  float* vectors;  // out, device [count][dim]
};
ResidentOutcome decode_resident(const Codebooks& codebooks, const ResidentDecodeRequest& request);

struct ResidentAccumulateRequest {
  const float* vectors;  // device [count][dim]
  size_t count;          // below 2^30
  size_t dim;
  DeviceCodes codes;  // device [count][code_stages]
  size_t code_stages;
  size_t stage;  // the column of `codes`
  size_t num_codewords;
  const int32_t* grid_exponents;  // host [dim]
  double* counts;                 // in and out, host [num_codewords]
  double* sums;                   // in and out, host [num_codewords][dim]
};
ResidentOutcome accumulate_resident(int device, const ResidentAccumulateRequest& request);

}  // namespace rvq::cuda
