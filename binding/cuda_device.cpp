// What every entry to the CUDA core reads, and the JavaScript functions that are about a device alone.

#include "cuda_device.h"

#include <cstdint>
#include <string>

#include "../cuda/device_state.h"
#include "../cuda/failure.h"
#include "cuda_call.h"
#include "cuda_release.h"
#include "job.h"
#include "processors.h"

#ifdef RVQ_EMULATE_CUDA
#include "../test/cuda-emulation/faults.h"
#endif

namespace rvq {

int read_device(const Arguments& arguments) {
  constexpr size_t kMostDevice = 1023;
  return static_cast<int>(arguments.size_between("device", 0, kMostDevice));
}

CudaOptions read_cuda_options(const Arguments& arguments) {
  constexpr size_t kMostThreads = 1024;
  int device = read_device(arguments);
  bool given = arguments.has("threads");
  return {device, given ? arguments.size_between("threads", 1, kMostThreads) : available_processors()};
}

void run_coded(Napi::Env env, const std::function<void()>& work) {
  size_t released = times_released();
  auto twice = [&] {
    try {
      work();
    } catch (const cuda::Failure& failure) {
      if (failure.kind != cuda::Failure::Kind::kOutOfMemory) throw;
      wait_for_releases();
      if (times_released() == released) throw;
      work();
    }
  };
  try {
    with_coded_failures(twice);
  } catch (...) {
    throw to_error(env, std::current_exception());
  }
}

Napi::Value cuda_open(const Napi::CallbackInfo& info) {
  int device = read_device(Arguments(info[0]));
  run_coded(info.Env(), [device] { cuda::open_device(device); });
  return info.Env().Undefined();
}

Napi::Value cuda_lost(const Napi::CallbackInfo& info) {
  return Napi::Boolean::New(info.Env(), cuda::is_lost(read_device(Arguments(info[0]))));
}

#ifdef RVQ_TESTING
Napi::Value cuda_test_limits(const Napi::CallbackInfo& info) {
  Arguments arguments(info[0]);
  cuda::TestLimits limits{arguments.size("pieceRows"), arguments.size("memoryBytes")};
  if (arguments.has("searchForm")) {
    std::string form = arguments.string("searchForm");
    if (form != "split" && form != "whole") throw arguments.error("searchForm", "\"split\" or \"whole\"");
    limits.search_form = form == "split" ? cuda::SearchForm::kSplit : cuda::SearchForm::kWhole;
  }
  cuda::set_test_limits(limits);
  return info.Env().Undefined();
}

Napi::Value cuda_test_lose(const Napi::CallbackInfo& info) {
  cuda::mark_lost(read_device(Arguments(info[0])), "lost by a test");
  return info.Env().Undefined();
}

#ifdef RVQ_EMULATE_CUDA
Napi::Value cuda_test_fail(const Napi::CallbackInfo& info) {
  Arguments arguments(info[0]);
  int device = arguments.has("device") ? read_device(arguments) : -1;
  int error = static_cast<int>(arguments.size_between("error", 1, 999));
  emulation::fail_calls(arguments.string("call").c_str(), error, device, arguments.size("times"));
  return info.Env().Undefined();
}

Napi::Value cuda_test_runtime(const Napi::CallbackInfo& info) {
  Napi::Array contexts = Napi::Array::New(info.Env());
  for (int device : emulation::devices_with_context()) contexts.Set(contexts.Length(), device);
  emulation::MemoryUse memory = emulation::memory_use();
  Napi::Object result = Napi::Object::New(info.Env());
  result.Set("contexts", contexts);
  result.Set("currentDevice", emulation::current_device());
  result.Set("deviceBytes", static_cast<double>(memory.device_bytes));
  result.Set("pinnedBytes", static_cast<double>(memory.pinned_bytes));
  return result;
}

Napi::Value cuda_test_open_rows(const Napi::CallbackInfo& info) {
  emulation::OpenRows rows = emulation::open_rows();
  Napi::Object result = Napi::Object::New(info.Env());
  result.Set("compared", static_cast<double>(rows.compared));
  result.Set("searched", static_cast<double>(rows.searched));
  return result;
}
#endif
#endif

}  // namespace rvq
