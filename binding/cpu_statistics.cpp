// The JavaScript functions that need no codebook: read a request, build the core's operation, run it on the pool.

#include "cpu_statistics.h"

#include <memory>
#include <utility>

#include "arguments.h"
#include "core_call.h"
#include "cpu/accumulate.h"
#include "cpu/distances.h"
#include "cpu_options.h"
#include "job.h"

namespace rvq {

Napi::Value accumulate(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  Arguments arguments(info[0]);
  CpuOptions options = read_cpu_options(Arguments(info[1]));
  cpu::AccumulateRequest request{};
  request.count = arguments.size_between("count", 0, UINT32_MAX);
  request.dim = arguments.size_between("dim", 1, 1u << 24);
  request.num_codewords = arguments.size_between("numCodewords", 1, UINT32_MAX);
  request.grid_exponents = arguments.integers("gridExponents", request.dim);
  request.vectors = arguments.floats("vectors", product(env, request.count, request.dim));
  request.codes = arguments.codes("codes", request.count);
  if (arguments.has("previousCodes")) request.previous = arguments.codes("previousCodes", request.count);
  request.counts = arguments.doubles("counts", request.num_codewords);
  request.sums = arguments.doubles("sums", product(env, request.num_codewords, request.dim));
  auto call = std::make_unique<CoreCall<cpu::Accumulate>>(nullptr, *options.kernels, request);
  return Jobs::run_later(env, std::move(call), options.threads, arguments.arrays());
}

Napi::Value lower_distances(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  Arguments arguments(info[0]);
  CpuOptions options = read_cpu_options(Arguments(info[1]));
  cpu::LowerDistancesRequest request{};
  request.count = arguments.size("count");
  request.dim = arguments.size_between("dim", 1, 1u << 24);
  request.vectors = arguments.floats("vectors", product(env, request.count, request.dim));
  request.weights = arguments.floats_or_null("weights", request.dim);
  request.centre = arguments.floats("centre", request.dim);
  request.distances = arguments.doubles("distances", request.count);
  auto call = std::make_unique<CoreCall<cpu::LowerDistances>>(nullptr, *options.kernels, request);
  return Jobs::run_later(env, std::move(call), options.threads, arguments.arrays());
}

}  // namespace rvq
