// Reads the requests of lib/backend.ts, the same for every native backend.

#include "requests.h"

#include <algorithm>
#include <string>

namespace rvq {

namespace {

void check_wide_enough(const Shape& shape, size_t stages, const cpu::Codes& codes, const Arguments& arguments) {
  for (size_t s = 0; s < stages; s++) {
    if (codes.wide || shape.codebook_sizes[s] <= 65536) continue;
    throw arguments.error("codes", "a Uint32Array for more than 65536 codewords");
  }
}

}  // namespace

cpu::CodebookSpec read_spec(Arguments& arguments) {
  cpu::CodebookSpec spec;
  spec.dim = arguments.size_between("dim", 1, 1u << 24);
  std::string metric = arguments.string("metric");
  if (metric != "l2" && metric != "cosine") throw arguments.error("metric", "\"l2\" or \"cosine\"");
  spec.metric = metric == "cosine" ? cpu::Metric::kCosine : cpu::Metric::kL2;
  spec.weights = arguments.floats_or_null("weights", spec.dim);
  if (spec.weights != nullptr && spec.metric == cpu::Metric::kCosine) {
    throw arguments.error("weights", "null with the cosine metric");
  }
  for (const auto& [codewords, length] : arguments.float_arrays("codebooks")) {
    size_t num_codewords = length / spec.dim;
    if (num_codewords == 0 || length % spec.dim != 0 || num_codewords > UINT32_MAX) {
      throw arguments.error("codebooks", "a multiple of dim elements in each");
    }
    spec.stages.push_back({codewords, num_codewords});
  }
  if (spec.stages.empty()) throw arguments.error("codebooks", "at least one");
  return spec;
}

void check_numbers(const cpu::CodebookSpec& spec, const Arguments& arguments) {
  arguments.check_left_alone();
  arguments.require_finite("weights", spec.weights, spec.dim);
  for (const auto& stage : spec.stages) {
    arguments.require_finite("codebooks", stage.codewords, stage.num_codewords * spec.dim);
  }
}

Shape shape_of(const cpu::CodebookSpec& spec) {
  Shape shape{spec.dim, {}};
  for (const auto& stage : spec.stages) shape.codebook_sizes.push_back(stage.num_codewords);
  return shape;
}

cpu::EncodeRequest read_encode_request(const Shape& shape, Napi::Env env, Arguments& arguments) {
  cpu::EncodeRequest request{};
  request.count = arguments.size("count");
  request.stages = arguments.size_between("stages", 1, shape.codebook_sizes.size());
  size_t elements = product(env, request.count, shape.dim);
  request.vectors = arguments.floats("vectors", elements);
  request.codes = arguments.codes("codes", product(env, request.count, request.stages));
  request.residuals = arguments.floats_or_null("residuals", elements);
  check_wide_enough(shape, request.stages, request.codes, arguments);
  return request;
}

cpu::DecodeRequest read_decode_request(const Shape& shape, Napi::Env env, Arguments& arguments) {
  cpu::DecodeRequest request{};
  request.count = arguments.size("count");
  request.stages = arguments.size_between("stages", 1, shape.codebook_sizes.size());
  request.code_stages = arguments.size("codeStages");
  if (request.code_stages < request.stages) throw arguments.error("codeStages", "at least stages");
  request.codes = arguments.codes("codes", product(env, request.count, request.code_stages));
  request.vectors = arguments.floats("vectors", product(env, request.count, shape.dim));
  return request;
}

cpu::DistancesRequest read_distances_request(const Shape& shape, Napi::Env env, Arguments& arguments) {
  cpu::DistancesRequest request{};
  request.count = arguments.size("count");
  request.stages = arguments.size_between("stages", 1, shape.codebook_sizes.size());
  request.code_stages = arguments.size("codeStages");
  if (request.code_stages < request.stages) throw arguments.error("codeStages", "at least stages");
  request.weighted = arguments.boolean("weighted");
  request.vectors = arguments.floats("vectors", product(env, request.count, shape.dim));
  request.codes = arguments.codes("codes", product(env, request.count, request.code_stages));
  request.distances = arguments.doubles("distances", product(env, request.count, request.stages));
  return request;
}

cpu::AssignRequest read_assign_request(const Shape& shape, Napi::Env env, Arguments& arguments) {
  cpu::AssignRequest request{};
  request.count = arguments.size("count");
  request.vectors = arguments.floats("vectors", product(env, request.count, shape.dim));
  request.codes = arguments.codes("codes", request.count);
  request.distances = arguments.doubles("distances", request.count);
  if (arguments.has("plainDistances")) request.plain_distances = arguments.doubles("plainDistances", request.count);
  check_wide_enough(shape, 1, request.codes, arguments);
  return request;
}

cpu::AccumulateRequest read_accumulate_request(Napi::Env env, Arguments& arguments) {
  cpu::AccumulateRequest request{};
  request.count = arguments.size_between("count", 0, UINT32_MAX);
  request.dim = arguments.size_between("dim", 1, 1u << 24);
  request.num_codewords = arguments.size_between("numCodewords", 1, UINT32_MAX);
  request.grid_exponents = read_grid_exponents(request.dim, arguments);
  request.vectors = arguments.floats("vectors", product(env, request.count, request.dim));
  request.codes = arguments.codes("codes", request.count);
  if (arguments.has("previousCodes")) request.previous = arguments.codes("previousCodes", request.count);
  request.counts = arguments.doubles("counts", request.num_codewords);
  request.sums = arguments.doubles("sums", product(env, request.num_codewords, request.dim));
  return request;
}

const int32_t* read_grid_exponents(size_t dim, Arguments& arguments) {
  const int32_t* exponents = arguments.integers("gridExponents", dim);
  bool all = std::all_of(exponents, exponents + dim, [](int32_t e) { return e >= -149 && e <= 1000; });
  if (!all) throw arguments.error("gridExponents", "integers in -149 … 1000");
  return exponents;
}

cpu::LowerDistancesRequest read_lower_distances_request(Napi::Env env, Arguments& arguments) {
  cpu::LowerDistancesRequest request{};
  request.count = arguments.size("count");
  request.dim = arguments.size_between("dim", 1, 1u << 24);
  request.vectors = arguments.floats("vectors", product(env, request.count, request.dim));
  request.weights = arguments.floats_or_null("weights", request.dim);
  request.centre = arguments.floats("centre", request.dim);
  request.distances = arguments.doubles("distances", request.count);
  return request;
}

cpu::ProjectionSpec read_projection_spec(Napi::Env env, Arguments& arguments) {
  cpu::ProjectionSpec spec{};
  spec.in_dim = arguments.size_between("inDim", 1, 1u << 24);
  spec.out_dim = arguments.size_between("outDim", 1, 1u << 24);
  spec.weight = arguments.floats("weight", product(env, spec.in_dim, spec.out_dim));
  spec.bias = arguments.floats_or_null("bias", spec.out_dim);
  arguments.check_left_alone();
  arguments.require_finite("weight", spec.weight, spec.in_dim * spec.out_dim);
  arguments.require_finite("bias", spec.bias, spec.out_dim);
  return spec;
}

cpu::ProjectRequest read_project_request(size_t in_dim, size_t out_dim, Napi::Env env, Arguments& arguments) {
  cpu::ProjectRequest request{};
  request.count = arguments.size("count");
  request.vectors = arguments.floats("vectors", product(env, request.count, in_dim));
  request.projected = arguments.floats("projected", product(env, request.count, out_dim));
  std::string into = arguments.string("into");
  if (into == "replace") {
    request.into = cpu::Into::kReplace;
  } else if (into == "add") {
    request.into = cpu::Into::kAdd;
  } else if (into == "subtract") {
    request.into = cpu::Into::kSubtract;
  } else {
    throw arguments.error("into", "\"replace\", \"add\" or \"subtract\"");
  }
  return request;
}

Napi::Value bad_input_object(Napi::Env env, bool zero, size_t row, size_t column) {
  Napi::Object object = Napi::Object::New(env);
  object.Set("kind", zero ? "zero" : "not finite");
  object.Set("row", static_cast<double>(row));
  object.Set("column", static_cast<double>(column));
  return object;
}

}  // namespace rvq
