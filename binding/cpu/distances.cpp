// Canonical distances: of vectors to their reconstructions, and to one centre.

#include "distances.h"

#include <algorithm>
#include <cstring>
#include <limits>
#include <vector>

#include "decode.h"

namespace rvq::cpu {

double Distances::work() const {
  return 4.0 * static_cast<double>(request_.count) * static_cast<double>(request_.stages * codebooks_.dim);
}

void Distances::run(BlockFeed& feed) {
  size_t dim = codebooks_.dim;
  size_t padded_dim = codebooks_.padded_dim;
  const float* weights = request_.weighted ? codebooks_.weights_or_null() : nullptr;
  AlignedArray<float> vector(padded_dim);
  AlignedArray<float> reconstruction(padded_dim);
  std::vector<const float*> codewords(request_.stages);
  while (auto block = feed.next()) {
    size_t end = std::min(request_.count, (*block + 1) * kBlockRows);
    for (size_t row = *block * kBlockRows; row < end; row++) {
      if (!look_up(codebooks_, {request_.codes, row, 1, request_.code_stages, request_.stages}, codewords.data())) {
        out_of_range_.store(true, std::memory_order_relaxed);
        feed.stop();
        return;
      }
      copy_padded(request_.vectors + row * dim, dim, padded_dim, vector.data());
      std::fill_n(reconstruction.data(), padded_dim, 0.0f);
      for (size_t s = 0; s < request_.stages; s++) {
        for (size_t i = 0; i < padded_dim; i++) reconstruction[i] += codewords[s][i];
        request_.distances[row * request_.stages + s] = kernels_.distance(
            vector.data(), reconstruction.data(), weights, padded_dim, std::numeric_limits<double>::infinity());
      }
    }
  }
}

LowerDistances::LowerDistances(const Kernels& kernels, const LowerDistancesRequest& request)
    : kernels_(kernels), request_(request), padded_dim_(padded(request.dim)), centre_(padded_dim_) {
  double roundings = static_cast<double>(request.dim + 16) * 0x1p-24;
  shrink_ = roundings < 0.25 ? 1 - 2 * roundings : 0;
  underflow_ = static_cast<double>(request.dim) * 0x1p-146;
  copy_padded(request.centre, request.dim, padded_dim_, centre_.data());
  if (request.weights == nullptr) return;
  weights_ = AlignedArray<float>(padded_dim_);
  copy_padded(request.weights, request.dim, padded_dim_, weights_.data());
}

void LowerDistances::run(BlockFeed& feed) {
  size_t dim = request_.dim;
  const float* weights = weights_.size() > 0 ? weights_.data() : nullptr;
  AlignedArray<float> padded_vector(padded_dim_);
  while (auto block = feed.next()) {
    size_t end = std::min(request_.count, (*block + 1) * kBlockRows);
    for (size_t row = *block * kBlockRows; row < end; row++) {
      const float* vector = request_.vectors + row * dim;
      if (weights == nullptr && clearly_farther(vector, request_.distances[row])) continue;
      if (dim != padded_dim_) {
        copy_padded(vector, dim, padded_dim_, padded_vector.data());
        vector = padded_vector.data();
      }
      double& lowest = request_.distances[row];
      double distance = kernels_.distance(vector, centre_.data(), weights, padded_dim_, lowest);
      if (distance < lowest) lowest = distance;
    }
  }
}

bool LowerDistances::clearly_farther(const float* vector, double lowest) const {
  double rough = kernels_.rough_distance(vector, centre_.data(), request_.dim);
  // Where float32 overflows it says nothing.
  return rough <= std::numeric_limits<float>::max() && rough * shrink_ - underflow_ > lowest;
}

}  // namespace rvq::cpu
