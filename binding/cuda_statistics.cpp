// The JavaScript functions of the CUDA core that need no codebook: read a request, build the operation, run it later.

#include "cuda_statistics.h"

#include <memory>
#include <optional>
#include <utility>

#include "../cuda/host_accumulate.h"
#include "../cuda/host_decode.h"
#include "arguments.h"
#include "cuda_call.h"
#include "cuda_device.h"
#include "cuda_memory.h"
#include "job.h"
#include "requests.h"

namespace rvq {

Napi::Value cuda_accumulate(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  Arguments arguments(info[0]);
  CudaOptions options = read_cuda_options(Arguments(info[1]));
  cpu::AccumulateRequest read = read_accumulate_request(env, arguments);
  std::optional<cuda::HostCodes> previous;
  if (read.previous) previous = host_codes(*read.previous);
  CudaMemory::Rows rows = CudaMemory::rows_of(env, arguments, options.device, read.count, read.dim);
  arguments.check_left_alone();
  cuda::HostAccumulateRequest request{
      read.vectors, rows.first,         read.count,          read.dim,    host_codes(read.codes),
      previous,     read.num_codewords, read.grid_exponents, read.counts, read.sums};
  auto call = std::make_unique<CudaCall<cuda::HostAccumulate>>(rows.block, options, request);
  return Jobs::run_later(env, std::move(call), 1, arguments.arrays());
}

Napi::Value cuda_lower_distances(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  Arguments arguments(info[0]);
  CudaOptions options = read_cuda_options(Arguments(info[1]));
  cpu::LowerDistancesRequest read = read_lower_distances_request(env, arguments);
  CudaMemory::Rows rows = CudaMemory::rows_of(env, arguments, options.device, read.count, read.dim);
  arguments.check_left_alone();
  cuda::HostLowerDistancesRequest request{read.vectors, rows.first,  read.count,    read.dim,
                                          read.weights, read.centre, read.distances};
  auto call = std::make_unique<CudaCall<cuda::HostLowerDistances>>(rows.block, options, request);
  return Jobs::run_later(env, std::move(call), 1, arguments.arrays());
}

}  // namespace rvq
