// Counts and sums of the vectors of every codeword, for rows in host memory.

#include "host_accumulate.h"

#include <cuda_runtime.h>

#include <algorithm>

#include "accumulate.h"
#include "array_layout.h"
#include "failure.h"
#include "lane.h"

namespace rvq::cuda {

namespace {

// Beyond this, sums are better brought home piece by piece than kept: other calls need memory too.
constexpr size_t kMostSumsBytes = size_t{1} << 30;

}  // namespace

struct HostAccumulate::Places {
  size_t vectors, codes, previous, grid_exponents, out_of_range, used;
  size_t in_end, heads_end;
  // Where only the codewords that a piece has are brought home.
  size_t used_codes, used_counts, used_sums;
  size_t host_end, workspace, end;
};

HostAccumulate::HostAccumulate(const HostAccumulateRequest& request)
    : request_(request),
      few_(request.num_codewords > request.count ||
           request.num_codewords * request.dim * sizeof(long long) > kMostSumsBytes) {}

size_t HostAccumulate::most_used_of(size_t rows) const {
  return most_used(rows, request_.previous.has_value(), request_.num_codewords);
}

HostAccumulate::Places HostAccumulate::places(size_t rows) const {
  ArrayLayout layout;
  Places at{};
  at.vectors = layout.add(request_.resident != nullptr ? 0 : rows * request_.dim * sizeof(float));
  at.codes = layout.add(rows * request_.codes.bytes_each());
  at.previous = layout.add(request_.previous ? rows * request_.previous->bytes_each() : 0);
  at.grid_exponents = layout.add(request_.dim * sizeof(int32_t));
  at.out_of_range = layout.add(sizeof(unsigned));
  at.in_end = at.out_of_range + sizeof(unsigned);
  at.used = layout.add(sizeof(uint32_t));
  at.heads_end = at.used + sizeof(uint32_t);
  if (few_) {
    at.used_codes = layout.add(most_used_of(rows) * sizeof(uint32_t));
    at.used_counts = layout.add(most_used_of(rows) * sizeof(int32_t));
    at.used_sums = layout.add(most_used_of(rows) * request_.dim * sizeof(long long));
  }
  at.host_end = layout.size();
  at.workspace = layout.add(accumulate_workspace_bytes(rows, request_.previous.has_value(), request_.num_codewords));
  at.end = layout.size();
  return at;
}

size_t HostAccumulate::row_bytes() const {
  size_t codes = request_.codes.bytes_each() + (request_.previous ? request_.previous->bytes_each() : 0);
  return (request_.resident != nullptr ? 0 : request_.dim * sizeof(float)) + codes;
}

PieceMemory HostAccumulate::memory(size_t rows) const {
  Places at = places(rows);
  return {at.host_end, at.end};
}

void HostAccumulate::begin(Lane& lane) {
  if (few_) return;
  try {
    counts_ = DeviceArray<long long>(allocate_resident(request_.num_codewords * sizeof(long long)));
    sums_ = DeviceArray<long long>(allocate_resident(request_.num_codewords * request_.dim * sizeof(long long)));
  } catch (const Failure& failure) {
    if (failure.kind != Failure::Kind::kOutOfMemory) throw;
    counts_ = DeviceArray<long long>();
    sums_ = DeviceArray<long long>();
    few_ = true;
    return;
  }
  check(cudaMemsetAsync(counts_.data(), 0, counts_.size_bytes(), lane.stream()), "accumulate");
  check(cudaMemsetAsync(sums_.data(), 0, sums_.size_bytes(), lane.stream()), "accumulate");
  // Pieces on other streams add to them too.
  lane.wait(false);
}

void HostAccumulate::submit(size_t first, size_t rows, Lane& lane) {
  Places at = places(rows);
  size_t dim = request_.dim;
  if (request_.resident == nullptr) {
    copy(lane.host<float>(at.vectors), request_.vectors + first * dim, rows * dim * sizeof(float));
  }
  copy(lane.host<char>(at.codes), request_.codes.at(first), rows * request_.codes.bytes_each());
  if (request_.previous) {
    copy(lane.host<char>(at.previous), request_.previous->at(first), rows * request_.previous->bytes_each());
  }
  copy(lane.host<int32_t>(at.grid_exponents), request_.grid_exponents, dim * sizeof(int32_t));
  *lane.host<unsigned>(at.out_of_range) = 0;
  lane.upload(at.vectors, at.in_end);

  AccumulateRequest request{};
  request.vectors = request_.resident != nullptr ? request_.resident + first * dim : lane.device<float>(at.vectors);
  request.count = rows;
  request.dim = dim;
  request.codes = {lane.device<void>(at.codes), request_.codes.wide};
  DeviceCodes previous{lane.device<void>(at.previous), request_.previous && request_.previous->wide};
  request.previous = request_.previous ? &previous : nullptr;
  request.code_stride = 1;
  request.num_codewords = request_.num_codewords;
  request.grid_exponents = lane.device<int32_t>(at.grid_exponents);
  request.out_of_range = lane.device<unsigned>(at.out_of_range);
  void* workspace = lane.device<void>(at.workspace);
  if (few_) {
    FewStatistics few{lane.device<uint32_t>(at.used), lane.device<uint32_t>(at.used_codes),
                      lane.device<int32_t>(at.used_counts), lane.device<long long>(at.used_sums),
                      most_used_of(rows) * dim};
    accumulate_few(request, few, workspace, lane.stream());
  } else {
    accumulate(request, counts_.data(), sums_.data(), workspace, lane.stream());
  }
  lane.download(at.out_of_range, few_ ? at.heads_end : at.in_end);
}

bool HostAccumulate::finish(size_t, size_t rows, Lane& lane) {
  Places at = places(rows);
  if (*lane.host<unsigned>(at.out_of_range) != 0) {
    out_of_range_ = true;
    return false;
  }
  if (few_) add_few(at, lane);
  return true;
}

// The lane's own stream brings as much as there is.
void HostAccumulate::add_few(const Places& at, Lane& lane) {
  size_t dim = request_.dim;
  size_t used = *lane.host<uint32_t>(at.used);
  lane.download(at.used_codes, at.used_codes + used * sizeof(uint32_t));
  lane.download(at.used_counts, at.used_counts + used * sizeof(int32_t));
  lane.download(at.used_sums, at.used_sums + used * dim * sizeof(long long));
  lane.wait(false);
  const uint32_t* codes = lane.host<uint32_t>(at.used_codes);
  const int32_t* counts = lane.host<int32_t>(at.used_counts);
  const long long* sums = lane.host<long long>(at.used_sums);
  for (size_t u = 0; u < used; u++) {
    double* own = request_.sums + codes[u] * dim;
    request_.counts[codes[u]] += counts[u];
    for (size_t i = 0; i < dim; i++) own[i] += static_cast<double>(sums[u * dim + i]);
  }
}

void HostAccumulate::end(Lane& lane) {
  if (few_) return;
  add_from_device(counts_.data(), counts_.size(), request_.counts, lane);
  add_from_device(sums_.data(), sums_.size(), request_.sums, lane);
  // Here, not on the thread that deletes this: freeing waits for all that the device does.
  counts_ = DeviceArray<long long>();
  sums_ = DeviceArray<long long>();
}

void add_from_device(const long long* from, size_t length, double* to, Lane& lane) {
  size_t most = lane.host_bytes() / sizeof(long long);
  for (size_t first = 0; first < length; first += most) {
    size_t some = std::min(most, length - first);
    long long* here = lane.host<long long>(0);
    check(cudaMemcpyAsync(here, from + first, some * sizeof(long long), cudaMemcpyDeviceToHost, lane.stream()),
          "copy from the device");
    lane.wait(false);
    for (size_t i = 0; i < some; i++) to[first + i] += static_cast<double>(here[i]);
  }
}

}  // namespace rvq::cuda
