// Canonical distances: of vectors to their reconstructions, and to one centre.

#pragma once

#include <atomic>
#include <cstddef>

#include "../block_feed.h"
#include "aligned_array.h"
#include "codebook.h"
#include "codes.h"
#include "kernels.h"

namespace rvq::cpu {

struct DistancesRequest {
  const float* vectors;  // [count][dim]
  size_t count;
  Codes codes;  // [count][code_stages]
  size_t code_stages;
  size_t stages;
  bool weighted;
  double* distances;  // out [count][stages]
};

// distances[n][s] = d64(vector n, its reconstruction from s + 1 stages).
class Distances {
 public:
  Distances(const Kernels& kernels, const Codebooks& codebooks, const DistancesRequest& request)
      : kernels_(kernels), codebooks_(codebooks), request_(request) {}

  size_t blocks() const { return (request_.count + kBlockRows - 1) / kBlockRows; }
  double work() const;
  void run(BlockFeed& feed);
  bool code_out_of_range() const { return out_of_range_.load(std::memory_order_relaxed); }

 private:
  static constexpr size_t kBlockRows = 256;

  const Kernels& kernels_;
  const Codebooks& codebooks_;
  const DistancesRequest request_;
  std::atomic<bool> out_of_range_{false};
};

struct LowerDistancesRequest {
  const float* vectors;  // [count][dim]
  size_t count;
  size_t dim;
  const float* weights;  // [dim] or null
  const float* centre;   // [dim]
  double* distances;     // in and out [count]
};

// distances[n] = min(distances[n], d64(vector n, centre)).
//
// Most vectors are clearly farther from the centre, and a distance in float32 shows it at the speed of memory. Its
// terms are not negative, so it is the true one times 1 + t with |t| ≤ γ, (D + 4) roundings of 2^-24 each, but for
// 2^-148 an element where something underflows. If it still exceeds distances[n] after both are taken off, then d64,
// which is within (⌈D/8⌉ + 6)·2^-53 of the true distance, is not smaller either; γ counts D + 16 roundings.
class LowerDistances {
 public:
  LowerDistances(const Kernels& kernels, const LowerDistancesRequest& request);

  size_t blocks() const { return (request_.count + kBlockRows - 1) / kBlockRows; }
  double work() const { return static_cast<double>(request_.count) * static_cast<double>(request_.dim); }
  void run(BlockFeed& feed);

 private:
  static constexpr size_t kBlockRows = 1024;

  bool clearly_farther(const float* vector, double lowest) const;

  const Kernels& kernels_;
  const LowerDistancesRequest request_;
  size_t padded_dim_;
  double shrink_;                // 1 − γ; zero where rows are too long for the bound to mean anything
  double underflow_;             // an absolute error
  AlignedArray<float> weights_;  // [padded_dim] or empty
  AlignedArray<float> centre_;   // [padded_dim]
};

}  // namespace rvq::cpu
