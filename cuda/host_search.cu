// Searches for rows in host memory: encode and the assignment step of k-means.
//
// A piece's arrays lie in a lane's memory in the order in, in and out, out, scratch: one copy goes each way.

#include "host_search.h"

#include <cuda_runtime.h>

#include "array_layout.h"
#include "distances.h"
#include "lane.h"

namespace rvq::cuda {

struct HostEncode::Places {
  size_t vectors, bad, codes, residuals;
  size_t in_end, host_end;
  size_t workspace, end;
};

HostEncode::Places HostEncode::places(size_t rows) const {
  ArrayLayout layout;
  Places at{};
  size_t matrix = rows * codebooks_.dim() * sizeof(float);
  if (!request_.pinned) at.vectors = layout.add(matrix);
  at.bad = layout.add(sizeof(unsigned long long));
  at.in_end = at.bad + sizeof(unsigned long long);
  at.codes = layout.add(rows * request_.stages * request_.codes.bytes_each());
  if (request_.residuals != nullptr) at.residuals = layout.add(matrix);
  at.host_end = layout.size();
  if (request_.pinned) at.vectors = layout.add(matrix);
  // Where nobody wants them they take the place of the vectors.
  if (request_.residuals == nullptr) at.residuals = at.vectors;
  at.workspace = layout.add(encode_workspace_bytes(codebooks_, rows));
  at.end = layout.size();
  return at;
}

size_t HostEncode::row_bytes() const {
  size_t matrices = request_.residuals == nullptr ? 1 : 2;
  return matrices * codebooks_.dim() * sizeof(float) + request_.stages * request_.codes.bytes_each();
}

PieceMemory HostEncode::memory(size_t rows) const {
  Places at = places(rows);
  return {at.host_end, at.end};
}

void HostEncode::submit(size_t first, size_t rows, Lane& lane) {
  Places at = places(rows);
  size_t elements = rows * codebooks_.dim();
  const float* vectors = request_.vectors + first * codebooks_.dim();
  *lane.host<unsigned long long>(at.bad) = kNothingBad;
  if (request_.pinned) {
    lane.upload_from(vectors, at.vectors, elements * sizeof(float));
    lane.upload(at.bad, at.in_end);
  } else {
    copy(lane.host<float>(at.vectors), vectors, elements * sizeof(float));
    lane.upload(at.vectors, at.in_end);
  }

  EncodeRequest request{};
  request.vectors = lane.device<float>(at.vectors);
  request.count = rows;
  request.stages = request_.stages;
  request.codes = {lane.device<void>(at.codes), request_.codes.wide};
  request.residuals = lane.device<float>(at.residuals);
  request.keep_residuals = request_.residuals != nullptr;
  request.bad = lane.device<unsigned long long>(at.bad);
  encode(codebooks_, request, lane.device<void>(at.workspace), lane.stream());
  lane.download(at.bad, at.host_end);
}

bool HostEncode::finish(size_t first, size_t rows, Lane& lane) {
  Places at = places(rows);
  size_t dim = codebooks_.dim();
  // Pieces are finished in order of rows: those before had nothing bad.
  bad_ = bad_input_of(*lane.host<unsigned long long>(at.bad), dim, first);
  if (bad_) return false;
  copy(request_.codes.at(first * request_.stages), lane.host<char>(at.codes),
       rows * request_.stages * request_.codes.bytes_each());
  if (request_.residuals != nullptr) {
    copy(request_.residuals + first * dim, lane.host<float>(at.residuals), rows * dim * sizeof(float));
  }
  return true;
}

struct HostAssign::Places {
  size_t vectors, bad, out_of_range, codes, distances, plain_distances;
  size_t in_end, host_end;
  size_t encode_workspace, end;
};

HostAssign::Places HostAssign::places(size_t rows) const {
  ArrayLayout layout;
  Places at{};
  at.vectors = layout.add(request_.resident != nullptr ? 0 : rows * codebooks_.dim() * sizeof(float));
  at.bad = layout.add(sizeof(unsigned long long));
  at.out_of_range = layout.add(sizeof(unsigned));
  at.in_end = layout.size();
  at.codes = layout.add(rows * request_.codes.bytes_each());
  at.distances = layout.add(rows * sizeof(double));
  at.plain_distances = request_.plain_distances == nullptr ? at.distances : layout.add(rows * sizeof(double));
  at.host_end = layout.size();
  at.encode_workspace = layout.add(encode_workspace_bytes(codebooks_, rows));
  at.end = layout.size();
  return at;
}

size_t HostAssign::row_bytes() const {
  size_t numbers = request_.plain_distances == nullptr ? 1 : 2;
  size_t vector = request_.resident != nullptr ? 0 : codebooks_.dim() * sizeof(float);
  return vector + request_.codes.bytes_each() + numbers * sizeof(double);
}

PieceMemory HostAssign::memory(size_t rows) const {
  Places at = places(rows);
  return {at.host_end, at.end};
}

void HostAssign::submit(size_t first, size_t rows, Lane& lane) {
  Places at = places(rows);
  size_t dim = codebooks_.dim();
  if (request_.resident == nullptr) {
    copy(lane.host<float>(at.vectors), request_.vectors + first * dim, rows * dim * sizeof(float));
  }
  *lane.host<unsigned long long>(at.bad) = kNothingBad;
  *lane.host<unsigned>(at.out_of_range) = 0;
  lane.upload(at.vectors, at.in_end);

  EncodeRequest search{};
  search.vectors = request_.resident != nullptr ? request_.resident + first * dim : lane.device<float>(at.vectors);
  search.count = rows;
  search.stages = 1;
  search.codes = {lane.device<void>(at.codes), request_.codes.wide};
  search.keep_residuals = false;
  search.bad = lane.device<unsigned long long>(at.bad);
  encode(codebooks_, search, lane.device<void>(at.encode_workspace), lane.stream());

  // What a search of bad vectors wrote as codes is unspecified: the flag is for that, and nobody looks at it.
  DistancesRequest measured{};
  measured.vectors = search.vectors;
  measured.count = rows;
  measured.codes = search.codes;
  measured.code_stages = 1;
  measured.stages = 1;
  measured.weighted = true;
  measured.distances = lane.device<double>(at.distances);
  measured.out_of_range = lane.device<unsigned>(at.out_of_range);
  distances(codebooks_, measured, lane.stream());
  if (request_.plain_distances != nullptr) {
    measured.weighted = false;
    measured.distances = lane.device<double>(at.plain_distances);
    distances(codebooks_, measured, lane.stream());
  }
  lane.download(at.codes, at.host_end);
}

bool HostAssign::finish(size_t first, size_t rows, Lane& lane) {
  Places at = places(rows);
  copy(request_.codes.at(first), lane.host<char>(at.codes), rows * request_.codes.bytes_each());
  copy(request_.distances + first, lane.host<double>(at.distances), rows * sizeof(double));
  if (request_.plain_distances != nullptr) {
    copy(request_.plain_distances + first, lane.host<double>(at.plain_distances), rows * sizeof(double));
  }
  return true;
}

}  // namespace rvq::cuda
