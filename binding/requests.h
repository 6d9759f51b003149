// Reads the requests of lib/backend.ts, the same for every native backend.

#pragma once

#include <napi.h>

#include <cstddef>
#include <vector>

#include "arguments.h"
#include "cpu/accumulate.h"
#include "cpu/assign.h"
#include "cpu/codebook.h"
#include "cpu/decode.h"
#include "cpu/distances.h"
#include "cpu/project.h"
#include "cpu/search.h"

namespace rvq {

// What requests to prepared codebooks are checked against.
struct Shape {
  size_t dim;
  std::vector<size_t> codebook_sizes;
};

// { dim, metric, weights, codebooks }
cpu::CodebookSpec read_spec(Arguments& arguments);
// Once no field is left to read: that weights and codewords are finite.
void check_numbers(const cpu::CodebookSpec& spec, const Arguments& arguments);
Shape shape_of(const cpu::CodebookSpec& spec);
// { inDim, outDim, weight, bias }, all finite
cpu::ProjectionSpec read_projection_spec(Napi::Env env, Arguments& arguments);

// Every reader throws a TypeError for a request that does not fit.
cpu::EncodeRequest read_encode_request(const Shape& shape, Napi::Env env, Arguments& arguments);
cpu::DecodeRequest read_decode_request(const Shape& shape, Napi::Env env, Arguments& arguments);
cpu::DistancesRequest read_distances_request(const Shape& shape, Napi::Env env, Arguments& arguments);
cpu::AssignRequest read_assign_request(const Shape& shape, Napi::Env env, Arguments& arguments);
// gridExponents[dim], each in the range of lib/backend.ts.
const int32_t* read_grid_exponents(size_t dim, Arguments& arguments);
cpu::AccumulateRequest read_accumulate_request(Napi::Env env, Arguments& arguments);
cpu::LowerDistancesRequest read_lower_distances_request(Napi::Env env, Arguments& arguments);
cpu::ProjectRequest read_project_request(size_t in_dim, size_t out_dim, Napi::Env env, Arguments& arguments);

// The BadInput of lib/backend.ts.
Napi::Value bad_input_object(Napi::Env env, bool zero, size_t row, size_t column);

}  // namespace rvq
