// Operations on codes, or on one centre, for rows in host memory: decode, distances, and a step of k-means++.

#pragma once

#include <cstddef>

#include "codebooks.h"
#include "host_search.h"
#include "row_stream.h"

namespace rvq::cuda {

struct HostDecodeRequest {
  HostCodes codes;  // [count][code_stages]
  size_t count;
  size_t code_stages;
  size_t stages;
  float* vectors;  // out [count][dim]
  bool pinned;     // the vectors are in pinned memory
};

class HostDecode final : public RowOperation {
 public:
  HostDecode(const Codebooks& codebooks, const HostDecodeRequest& request) : codebooks_(codebooks), request_(request) {}

  size_t count() const override { return request_.count; }
  size_t row_bytes() const override;
  PieceMemory memory(size_t rows) const override;
  void submit(size_t first, size_t rows, Lane& lane) override;
  bool finish(size_t first, size_t rows, Lane& lane) override;

  // A code had no codeword; what was decoded is then incomplete.
  bool code_out_of_range() const { return out_of_range_; }

 private:
  struct Places;
  Places places(size_t rows) const;

  const Codebooks& codebooks_;
  const HostDecodeRequest request_;
  bool out_of_range_ = false;
};

struct HostDistancesRequest {
  const float* vectors;  // [count][dim]
  bool pinned;           // the vectors are in pinned memory
  size_t count;
  HostCodes codes;  // [count][code_stages]
  size_t code_stages;
  size_t stages;
  bool weighted;
  double* distances;  // out [count][stages]
};

class HostDistances final : public RowOperation {
 public:
  HostDistances(const Codebooks& codebooks, const HostDistancesRequest& request)
      : codebooks_(codebooks), request_(request) {}

  size_t count() const override { return request_.count; }
  size_t row_bytes() const override;
  PieceMemory memory(size_t rows) const override;
  void submit(size_t first, size_t rows, Lane& lane) override;
  bool finish(size_t first, size_t rows, Lane& lane) override;

  bool code_out_of_range() const { return out_of_range_; }

 private:
  struct Places;
  Places places(size_t rows) const;

  const Codebooks& codebooks_;
  const HostDistancesRequest request_;
  bool out_of_range_ = false;
};

struct HostLowerDistancesRequest {
  const float* vectors;   // [count][dim]
  const float* resident;  // the same rows on the device, or null: they are not copied then
  size_t count;
  size_t dim;
  const float* weights;  // [dim] or null
  const float* centre;   // [dim]
  double* distances;     // in and out [count]
};

class HostLowerDistances final : public RowOperation {
 public:
  explicit HostLowerDistances(const HostLowerDistancesRequest& request) : request_(request) {}

  size_t count() const override { return request_.count; }
  size_t row_bytes() const override;
  PieceMemory memory(size_t rows) const override;
  void submit(size_t first, size_t rows, Lane& lane) override;
  bool finish(size_t first, size_t rows, Lane& lane) override;

 private:
  struct Places;
  Places places(size_t rows) const;

  const HostLowerDistancesRequest request_;
};

}  // namespace rvq::cuda
