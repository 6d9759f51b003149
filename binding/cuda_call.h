// Turns an operation on rows of the CUDA core into a call from JavaScript.

#pragma once

#include <napi.h>

#include <functional>
#include <memory>
#include <utility>

#include "../cuda/row_stream.h"
#include "cuda_device.h"
#include "cuda_release.h"
#include "host_copy.h"
#include "job.h"
#include "requests.h"

namespace rvq {

// Runs work of the CUDA core; its failures become CodedFailures "OUT_OF_MEMORY", "DEVICE_LOST" or "CUDA", with what to
// do about them.
void with_coded_failures(const std::function<void()>& work);

// Multiply-adds that are too many for the JavaScript thread, however few they are: it would wait for the device.
constexpr double kNeverOnTheSpot = 1e18;

// `owner` keeps alive what the operation borrows.
template <typename Operation>
class CudaCall final : public Call {
 public:
  template <typename... Arguments>
  CudaCall(std::shared_ptr<const void> owner, CudaOptions options, const Arguments&... arguments)
      : owner_(std::move(owner)), device_(options.device), operation_(arguments...) {
    operation_.copy_by([threads = options.threads](void* to, const void* from, size_t bytes) {
      copy_bytes(to, from, bytes, threads);
    });
  }

  // One for a piece of rows: there are never more pieces than rows.
  size_t blocks() const override { return operation_.count(); }
  double work() const override { return kNeverOnTheSpot; }
  ThreadPool& pool() const override { return ThreadPool::of_devices(); }
  void run(BlockFeed& feed) override {
    wait_for_releases();
    with_coded_failures([&] { cuda::stream_rows(operation_, device_, [&feed] { return feed.next().has_value(); }); });
  }
  Napi::Value result(Napi::Env env) override {
    if constexpr (requires { operation_.code_out_of_range(); }) {
      if (operation_.code_out_of_range()) throw Napi::RangeError::New(env, "codes: a code has no codeword");
    }
    if constexpr (requires { operation_.row_out_of_range(); }) {
      if (operation_.row_out_of_range()) throw Napi::RangeError::New(env, "rows: a row is not there");
    }
    if constexpr (requires { operation_.bad_input(); }) {
      auto bad = operation_.bad_input();
      return bad ? bad_input_object(env, bad->zero, bad->row, bad->column) : env.Null();
    }
    return env.Undefined();
  }

 private:
  std::shared_ptr<const void> owner_;
  const int device_;
  Operation operation_;
};

}  // namespace rvq
