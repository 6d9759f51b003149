// Operations on codes, or on one centre, for rows in host memory: decode, distances, and a step of k-means++.
//
// A piece's arrays lie in a lane's memory in the order in, in and out, out, scratch: one copy goes each way.

#include "host_decode.h"

#include <cuda_runtime.h>

#include "array_layout.h"
#include "decode.h"
#include "distances.h"
#include "lane.h"

namespace rvq::cuda {

struct HostDecode::Places {
  size_t codes, out_of_range, vectors;
  size_t in_end, host_end, end;
};

HostDecode::Places HostDecode::places(size_t rows) const {
  ArrayLayout layout;
  Places at{};
  at.codes = layout.add(rows * request_.code_stages * request_.codes.bytes_each());
  at.out_of_range = layout.add(sizeof(unsigned));
  at.in_end = at.out_of_range + sizeof(unsigned);
  at.host_end = layout.size();
  at.vectors = layout.add(rows * codebooks_.dim() * sizeof(float));
  at.end = layout.size();
  if (!request_.pinned) at.host_end = at.end;
  return at;
}

size_t HostDecode::row_bytes() const {
  return codebooks_.dim() * sizeof(float) + request_.code_stages * request_.codes.bytes_each();
}

PieceMemory HostDecode::memory(size_t rows) const {
  Places at = places(rows);
  return {at.host_end, at.end};
}

void HostDecode::submit(size_t first, size_t rows, Lane& lane) {
  Places at = places(rows);
  copy(lane.host<char>(at.codes), request_.codes.at(first * request_.code_stages),
       rows * request_.code_stages * request_.codes.bytes_each());
  *lane.host<unsigned>(at.out_of_range) = 0;
  lane.upload(at.codes, at.in_end);
  DecodeRequest request{};
  request.codes = {lane.device<void>(at.codes), request_.codes.wide};
  request.count = rows;
  request.code_stages = request_.code_stages;
  request.stages = request_.stages;
  request.vectors = lane.device<float>(at.vectors);
  request.out_of_range = lane.device<unsigned>(at.out_of_range);
  decode(codebooks_, request, lane.stream());
  lane.download(at.out_of_range, at.host_end);
  size_t dim = codebooks_.dim();
  if (request_.pinned) lane.download_to(request_.vectors + first * dim, at.vectors, rows * dim * sizeof(float));
}

bool HostDecode::finish(size_t first, size_t rows, Lane& lane) {
  Places at = places(rows);
  if (*lane.host<unsigned>(at.out_of_range) != 0) {
    out_of_range_ = true;
    return false;
  }
  if (request_.pinned) return true;
  size_t dim = codebooks_.dim();
  copy(request_.vectors + first * dim, lane.host<float>(at.vectors), rows * dim * sizeof(float));
  return true;
}

struct HostDistances::Places {
  size_t vectors, codes, out_of_range, distances;
  size_t in_end, host_end;
  size_t workspace, end;
};

HostDistances::Places HostDistances::places(size_t rows) const {
  ArrayLayout layout;
  Places at{};
  if (!request_.pinned) at.vectors = layout.add(rows * codebooks_.dim() * sizeof(float));
  at.codes = layout.add(rows * request_.code_stages * request_.codes.bytes_each());
  at.out_of_range = layout.add(sizeof(unsigned));
  at.in_end = at.out_of_range + sizeof(unsigned);
  at.distances = layout.add(rows * request_.stages * sizeof(double));
  at.host_end = layout.size();
  if (request_.pinned) at.vectors = layout.add(rows * codebooks_.dim() * sizeof(float));
  at.workspace = layout.add(distances_workspace_bytes(codebooks_, rows, request_.stages));
  at.end = layout.size();
  return at;
}

size_t HostDistances::row_bytes() const {
  return codebooks_.dim() * sizeof(float) + request_.code_stages * request_.codes.bytes_each() +
         request_.stages * sizeof(double);
}

PieceMemory HostDistances::memory(size_t rows) const {
  Places at = places(rows);
  return {at.host_end, at.end};
}

void HostDistances::submit(size_t first, size_t rows, Lane& lane) {
  Places at = places(rows);
  const float* vectors = request_.vectors + first * codebooks_.dim();
  size_t bytes = rows * codebooks_.dim() * sizeof(float);
  copy(lane.host<char>(at.codes), request_.codes.at(first * request_.code_stages),
       rows * request_.code_stages * request_.codes.bytes_each());
  *lane.host<unsigned>(at.out_of_range) = 0;
  if (request_.pinned) {
    lane.upload_from(vectors, at.vectors, bytes);
    lane.upload(at.codes, at.in_end);
  } else {
    copy(lane.host<float>(at.vectors), vectors, bytes);
    lane.upload(at.vectors, at.in_end);
  }
  DistancesRequest request{};
  request.vectors = lane.device<float>(at.vectors);
  request.count = rows;
  request.codes = {lane.device<void>(at.codes), request_.codes.wide};
  request.code_stages = request_.code_stages;
  request.stages = request_.stages;
  request.weighted = request_.weighted;
  request.distances = lane.device<double>(at.distances);
  request.workspace = lane.device<void>(at.workspace);
  request.out_of_range = lane.device<unsigned>(at.out_of_range);
  distances(codebooks_, request, lane.stream());
  lane.download(at.out_of_range, at.host_end);
}

bool HostDistances::finish(size_t first, size_t rows, Lane& lane) {
  Places at = places(rows);
  if (*lane.host<unsigned>(at.out_of_range) != 0) {
    out_of_range_ = true;
    return false;
  }
  size_t stages = request_.stages;
  copy(request_.distances + first * stages, lane.host<double>(at.distances), rows * stages * sizeof(double));
  return true;
}

struct HostLowerDistances::Places {
  size_t vectors, centre, weights, distances, end;
};

HostLowerDistances::Places HostLowerDistances::places(size_t rows) const {
  ArrayLayout layout;
  Places at{};
  size_t row = request_.dim * sizeof(float);
  at.vectors = layout.add(request_.resident != nullptr ? 0 : rows * row);
  at.centre = layout.add(row);
  at.weights = layout.add(request_.weights == nullptr ? 0 : row);
  at.distances = layout.add(rows * sizeof(double));
  at.end = layout.size();
  return at;
}

size_t HostLowerDistances::row_bytes() const {
  return (request_.resident != nullptr ? 0 : request_.dim * sizeof(float)) + 2 * sizeof(double);
}

PieceMemory HostLowerDistances::memory(size_t rows) const {
  Places at = places(rows);
  return {at.end, at.end};
}

void HostLowerDistances::submit(size_t first, size_t rows, Lane& lane) {
  Places at = places(rows);
  size_t row = request_.dim * sizeof(float);
  if (request_.resident == nullptr) {
    copy(lane.host<float>(at.vectors), request_.vectors + first * request_.dim, rows * row);
  }
  copy(lane.host<float>(at.centre), request_.centre, row);
  if (request_.weights != nullptr) copy(lane.host<float>(at.weights), request_.weights, row);
  copy(lane.host<double>(at.distances), request_.distances + first, rows * sizeof(double));
  lane.upload(at.vectors, at.end);
  LowerDistancesRequest request{};
  request.vectors =
      request_.resident != nullptr ? request_.resident + first * request_.dim : lane.device<float>(at.vectors);
  request.count = rows;
  request.dim = request_.dim;
  request.weights = request_.weights == nullptr ? nullptr : lane.device<float>(at.weights);
  request.centre = lane.device<float>(at.centre);
  request.distances = lane.device<double>(at.distances);
  lower_distances(request, lane.stream());
  lane.download(at.distances, at.end);
}

bool HostLowerDistances::finish(size_t first, size_t rows, Lane& lane) {
  Places at = places(rows);
  copy(request_.distances + first, lane.host<double>(at.distances), rows * sizeof(double));
  return true;
}

}  // namespace rvq::cuda
