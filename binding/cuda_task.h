// A call from JavaScript that is one piece of work on a device.

#pragma once

#include <napi.h>

#include <functional>
#include <utility>

#include "cuda_call.h"
#include "cuda_release.h"
#include "job.h"

namespace rvq {

class CudaTask final : public Call {
 public:
  // `work` runs on a thread of the pool, then `answer` on the JavaScript thread; both keep alive what they need.
  CudaTask(std::function<void()> work, std::function<Napi::Value(Napi::Env)> answer)
      : work_(std::move(work)), answer_(std::move(answer)) {}

  size_t blocks() const override { return 1; }
  double work() const override { return kNeverOnTheSpot; }
  ThreadPool& pool() const override { return ThreadPool::of_devices(); }
  void run(BlockFeed& feed) override {
    if (!feed.next()) return;
    wait_for_releases();
    with_coded_failures(work_);
  }
  Napi::Value result(Napi::Env env) override { return answer_(env); }

 private:
  std::function<void()> work_;
  std::function<Napi::Value(Napi::Env)> answer_;
};

}  // namespace rvq
