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
#include "requests.h"

namespace rvq {

Napi::Value accumulate(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  Arguments arguments(info[0]);
  CpuOptions options = read_cpu_options(Arguments(info[1]));
  cpu::AccumulateRequest request = read_accumulate_request(env, arguments);
  auto call = std::make_unique<CoreCall<cpu::Accumulate>>(nullptr, *options.kernels, request);
  return Jobs::run_later(env, std::move(call), options.threads, arguments.arrays());
}

Napi::Value lower_distances(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  Arguments arguments(info[0]);
  CpuOptions options = read_cpu_options(Arguments(info[1]));
  cpu::LowerDistancesRequest request = read_lower_distances_request(env, arguments);
  arguments.check_left_alone();
  auto call = std::make_unique<CoreCall<cpu::LowerDistances>>(nullptr, *options.kernels, request);
  return Jobs::run_later(env, std::move(call), options.threads, arguments.arrays());
}

}  // namespace rvq
