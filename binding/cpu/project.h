// Linear maps of vectors, as codecs have around their codebooks.

#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <optional>

#include "../block_feed.h"
#include "aligned_array.h"
#include "input_check.h"
#include "kernels.h"

namespace rvq::cpu {

struct ProjectionSpec {
  size_t in_dim;
  size_t out_dim;
  const float* weight;  // [out_dim][in_dim]
  const float* bias;    // [out_dim] or null
};

// The weights of kPanelOutputs outputs side by side; zeros where there is no output.
struct PackedProjection {
  explicit PackedProjection(const ProjectionSpec& spec);

  size_t panels() const { return (out_dim + kPanelOutputs - 1) / kPanelOutputs; }
  size_t size_bytes() const { return weights.size_bytes() + bias.size_bytes(); }

  size_t in_dim;
  size_t out_dim;
  AlignedArray<float> weights;  // [panels][in_dim][kPanelOutputs]
  AlignedArray<double> bias;    // [panels][kPanelOutputs]
};

enum class Into { kReplace, kAdd, kSubtract };

struct ProjectRequest {
  const float* vectors;  // [count][in_dim]
  size_t count;
  float* projected;  // in and out [count][out_dim]
  Into into;
};

// One project call; `run` is called by every thread that takes part.
class Project {
 public:
  Project(const Kernels& kernels, const PackedProjection& projection, const ProjectRequest& request)
      : kernels_(kernels), projection_(projection), request_(request) {}

  size_t blocks() const { return (request_.count + kBlockRows - 1) / kBlockRows; }
  double work() const;
  void run(BlockFeed& feed);
  // After the last block: the first vector that is not finite, the same for any number of threads.
  std::optional<BadInput> bad_input() const;

 private:
  // Two or more tiles of every level.
  static constexpr size_t kBlockRows = 24;

  bool passes(size_t first_row, size_t count);
  void project(const double* rows, size_t row_stride, size_t first_row, size_t count, double* sums) const;
  void write(const double* sums, size_t row, size_t panel) const;

  const Kernels& kernels_;
  const PackedProjection& projection_;
  const ProjectRequest request_;
  static constexpr uint64_t kNone = UINT64_MAX;
  // The smallest index of an element that is not finite.
  std::atomic<uint64_t> bad_{kNone};
};

}  // namespace rvq::cpu
