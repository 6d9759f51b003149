// What every entry to the CUDA core reads, and the JavaScript functions that are about a device alone.

#pragma once

#include <napi.h>

#include <cstddef>
#include <functional>

#include "../cuda/host_search.h"
#include "arguments.h"

namespace rvq {

struct CudaOptions {
  int device;      // need not exist
  size_t threads;  // that one call may use to copy
};

// device: its number.
int read_device(const Arguments& arguments);
// { device, threads }; without `threads` all processors that this process may run on.
CudaOptions read_cuda_options(const Arguments& arguments);

// Runs work on the JavaScript thread, and once more where it found no memory while some was about to be released; a
// failure becomes an Error with a `code`.
void run_coded(Napi::Env env, const std::function<void()>& work);

inline cuda::HostCodes host_codes(const cpu::Codes& codes) { return {codes.data, codes.wide}; }

// cudaOpen({ device }): returns when the device has run a kernel of this build; else throws an Error with a `code`.
Napi::Value cuda_open(const Napi::CallbackInfo& info);
// cudaLost({ device }): whether some call of this process has found it lost.
Napi::Value cuda_lost(const Napi::CallbackInfo& info);

#ifdef RVQ_TESTING
// cudaTestLimits({ pieceRows, memoryBytes }): of pieces and of a lane's device memory from now on; 0: none.
Napi::Value cuda_test_limits(const Napi::CallbackInfo& info);
// cudaTestLose({ device }): as if a kernel had crashed there.
Napi::Value cuda_test_lose(const Napi::CallbackInfo& info);
#ifdef RVQ_EMULATE_CUDA
// cudaTestFail({ call, error, times, device? }): the next so many calls of the runtime of this name, on one device or
// any, return the error of this number; kernels are started by "cudaLaunchKernelExC".
Napi::Value cuda_test_fail(const Napi::CallbackInfo& info);
// cudaTestRuntime(): { contexts, currentDevice, deviceBytes, pinnedBytes }: the numbers of the devices that have a
// context, this thread's device, and the memory of the whole process.
Napi::Value cuda_test_runtime(const Napi::CallbackInfo& info);
// cudaTestOpenRows(): { compared, searched } rows, once a stage, that the emulated device's screen has left open so
// far.
Napi::Value cuda_test_open_rows(const Napi::CallbackInfo& info);
#endif
#endif

}  // namespace rvq
