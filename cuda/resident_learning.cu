// The operations of a step of learning on rows that stay on the device; what they find comes to the host.

#include "resident_learning.h"

#include <cuda_runtime.h>

#include <algorithm>

#include "array_layout.h"
#include "failure.h"
#include "lane.h"
#include "learning.h"

namespace rvq::cuda {

void ResidentMagnitudes::submit(size_t first, size_t rows, Lane& lane) {
  check(cudaMemsetAsync(lane.device<void>(0), 0, dim_ * sizeof(float), lane.stream()), "magnitudes");
  raise_to_magnitudes(vectors_ + first * dim_, rows, dim_, lane.device<float>(0), lane.stream());
  lane.download(0, dim_ * sizeof(float));
}

bool ResidentMagnitudes::finish(size_t, size_t, Lane& lane) {
  const float* found = lane.host<float>(0);
  for (size_t i = 0; i < dim_; i++) largest_[i] = std::max(largest_[i], found[i]);
  return true;
}

struct ResidentPassOn::Places {
  size_t out_of_range, distances, plain_distances, end;
};

ResidentPassOn::Places ResidentPassOn::places(size_t rows) const {
  ArrayLayout layout;
  Places at{};
  at.out_of_range = layout.add(sizeof(unsigned));
  at.distances = layout.add(rows * sizeof(double));
  at.plain_distances = request_.plain_distances == nullptr ? at.distances : layout.add(rows * sizeof(double));
  at.end = layout.size();
  return at;
}

size_t ResidentPassOn::row_bytes() const { return (request_.plain_distances == nullptr ? 1 : 2) * sizeof(double); }

PieceMemory ResidentPassOn::memory(size_t rows) const {
  Places at = places(rows);
  return {at.end, at.end};
}

void ResidentPassOn::submit(size_t first, size_t rows, Lane& lane) {
  Places at = places(rows);
  size_t dim = codebooks_.dim();
  *lane.host<unsigned>(at.out_of_range) = 0;
  lane.upload(at.out_of_range, at.out_of_range + sizeof(unsigned));
  size_t code_bytes = request_.codes.wide ? sizeof(uint32_t) : sizeof(uint16_t);
  PassOnRequest request{};
  request.vectors = request_.vectors + first * dim;
  request.count = rows;
  request.codes = {static_cast<char*>(request_.codes.data) + first * request_.code_stages * code_bytes,
                   request_.codes.wide};
  request.code_stages = request_.code_stages;
  request.stage = request_.stage;
  request.distances = lane.device<double>(at.distances);
  if (request_.plain_distances != nullptr) request.plain_distances = lane.device<double>(at.plain_distances);
  if (request_.residuals != nullptr) request.residuals = request_.residuals + first * dim;
  request.out_of_range = lane.device<unsigned>(at.out_of_range);
  pass_on(codebooks_, request, lane.stream());
  lane.download(at.out_of_range, at.end);
}

bool ResidentPassOn::finish(size_t first, size_t rows, Lane& lane) {
  Places at = places(rows);
  if (*lane.host<unsigned>(at.out_of_range) != 0) {
    out_of_range_ = true;
    return false;
  }
  copy(request_.distances + first, lane.host<double>(at.distances), rows * sizeof(double));
  if (request_.plain_distances != nullptr) {
    copy(request_.plain_distances + first, lane.host<double>(at.plain_distances), rows * sizeof(double));
  }
  return true;
}

}  // namespace rvq::cuda
