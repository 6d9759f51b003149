// The map of the native side: everything that JavaScript sees of it.
//
//   cpuInfo()         { instructionSet, instructionSets, processors }      cpu/instruction_set.h, processors.h
//   cudaInfo()        { devices, driverVersion, runtimeVersion, reason }   ../cuda/devices.h
//   CpuCodebooks      prepared codebooks: encode, decode, distances, assign   cpu_codebooks.h
//   CpuProjection     a prepared linear map of vectors: project            cpu_projection.h
//   accumulate        counts and sums of the vectors of every codeword     cpu_statistics.h
//   lowerDistances    a step of k-means++ seeding                          cpu_statistics.h
//   scanCodes         the nearest of coded vectors                         cpu_code_scan.h
//   fmaPeak           the processor's peak                                 cpu_peak.h
//   packCodes, unpackCodes   codes as bits and back                        packing.h
//   copyElements      a copy of an array by several threads                host_copy.h
//   CudaCodebooks, cudaAccumulate, cudaLowerDistances   the same on a device   cuda_codebooks.h, cuda_statistics.h
//   cudaStagingRoom   pinned memory as an ArrayBuffer                      cuda_staging.h
//   CudaMemory, cudaAccumulateResident, cudaMagnitudesResident   arrays that stay on a device   cuda_memory.h,
//                     cuda_resident.cpp
//   cudaOpen, cudaLost   that a device works, or no longer does; these are only there with CUDA   cuda_device.h
//   processorsUnder   what cpuInfo().processors would be with other control groups; only in builds for tests
//   cudaTestLimits, cudaTestLose   small pieces and lost devices; only in builds for tests   cuda_device.h
//   cudaTestRooms     what has become of pinned memory; only in builds for tests   cuda_staging.h
//   mostThreads       how many threads asynchronous calls have had at once; only in builds for tests   job.h
//
// Nothing here chooses or falls back: that is lib/'s. Bad arguments are a TypeError, never a crash.

#include <napi.h>

#include "cpu/instruction_set.h"
#include "cpu_code_scan.h"
#include "cpu_codebooks.h"
#include "cpu_peak.h"
#include "cpu_projection.h"
#include "cpu_statistics.h"
#include "cuda_info.h"
#ifdef RVQ_CUDA
#include "cuda_codebooks.h"
#include "cuda_device.h"
#include "cuda_memory.h"
#include "cuda_staging.h"
#include "cuda_statistics.h"
#endif
#include "host_copy.h"
#include "job.h"
#include "packing.h"
#include "processors.h"

namespace rvq {

namespace {

Napi::Value cpu_info(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  const auto& levels = cpu::supported_kernels();
  Napi::Array names = Napi::Array::New(env, levels.size());
  for (uint32_t i = 0; i < levels.size(); i++) names.Set(i, levels[i]->name);
  Napi::Object result = Napi::Object::New(env);
  result.Set("instructionSet", levels.front()->name);
  result.Set("instructionSets", names);
  result.Set("processors", static_cast<double>(available_processors()));
  return result;
}

#ifdef RVQ_TESTING
Napi::Value processors_under(const Napi::CallbackInfo& info) {
  return Napi::Number::New(info.Env(), static_cast<double>(available_processors(info[0].ToString().Utf8Value())));
}
#endif

Napi::Object initialise(Napi::Env env, Napi::Object exports) {
  Jobs::attach(env);
  exports.Set("cpuInfo", Napi::Function::New(env, cpu_info, "cpuInfo"));
  exports.Set("cudaInfo", Napi::Function::New(env, cuda_info, "cudaInfo"));
  exports.Set("CpuCodebooks", CpuCodebooks::define(env));
  exports.Set("CpuProjection", CpuProjection::define(env));
  exports.Set("accumulate", Napi::Function::New(env, accumulate, "accumulate"));
  exports.Set("lowerDistances", Napi::Function::New(env, lower_distances, "lowerDistances"));
  exports.Set("scanCodes", Napi::Function::New(env, scan_codes, "scanCodes"));
  exports.Set("fmaPeak", Napi::Function::New(env, fma_peak, "fmaPeak"));
  exports.Set("copyElements", Napi::Function::New(env, copy_elements, "copyElements"));
  exports.Set("packCodes", Napi::Function::New(env, pack_codes, "packCodes"));
  exports.Set("unpackCodes", Napi::Function::New(env, unpack_codes, "unpackCodes"));
#ifdef RVQ_CUDA
  exports.Set("CudaCodebooks", CudaCodebooks::define(env));
  exports.Set("CudaMemory", CudaMemory::define(env));
  exports.Set("cudaAccumulateResident", Napi::Function::New(env, cuda_accumulate_resident, "cudaAccumulateResident"));
  exports.Set("cudaGatherResident", Napi::Function::New(env, cuda_gather_resident, "cudaGatherResident"));
  exports.Set("cudaDrawResident", Napi::Function::New(env, cuda_draw_resident, "cudaDrawResident"));
  exports.Set("cudaMagnitudesResident", Napi::Function::New(env, cuda_magnitudes_resident, "cudaMagnitudesResident"));
  exports.Set("cudaAccumulate", Napi::Function::New(env, cuda_accumulate, "cudaAccumulate"));
  exports.Set("cudaLowerDistances", Napi::Function::New(env, cuda_lower_distances, "cudaLowerDistances"));
  exports.Set("cudaLost", Napi::Function::New(env, cuda_lost, "cudaLost"));
  exports.Set("cudaOpen", Napi::Function::New(env, cuda_open, "cudaOpen"));
  exports.Set("cudaStagingRoom", Napi::Function::New(env, cuda_staging_room, "cudaStagingRoom"));
#ifdef RVQ_TESTING
  exports.Set("cudaTestLimits", Napi::Function::New(env, cuda_test_limits, "cudaTestLimits"));
  exports.Set("cudaTestLose", Napi::Function::New(env, cuda_test_lose, "cudaTestLose"));
  exports.Set("cudaTestRooms", Napi::Function::New(env, cuda_test_rooms, "cudaTestRooms"));
#ifdef RVQ_EMULATE_CUDA
  exports.Set("cudaTestFail", Napi::Function::New(env, cuda_test_fail, "cudaTestFail"));
  exports.Set("cudaTestOpenRows", Napi::Function::New(env, cuda_test_open_rows, "cudaTestOpenRows"));
  exports.Set("cudaTestRuntime", Napi::Function::New(env, cuda_test_runtime, "cudaTestRuntime"));
#endif
#endif
#endif
#ifdef RVQ_TESTING
  exports.Set("mostThreads", Napi::Function::New(env, most_threads, "mostThreads"));
  exports.Set("processorsUnder", Napi::Function::New(env, processors_under, "processorsUnder"));
#endif
  return exports;
}

}  // namespace

NODE_API_MODULE(rvq, initialise)

}  // namespace rvq
