// Turns an operation of the core into a call from JavaScript.

#pragma once

#include <napi.h>

#include <memory>
#include <utility>

#include "job.h"

namespace rvq {

// For operations that write their result into the request's arrays. `owner` keeps alive what the operation borrows.
template <typename Operation>
class CoreCall final : public Call {
 public:
  template <typename... Arguments>
  explicit CoreCall(std::shared_ptr<const void> owner, Arguments&&... arguments)
      : owner_(std::move(owner)), operation_(std::forward<Arguments>(arguments)...) {}

  size_t blocks() const override { return operation_.blocks(); }
  double work() const override { return operation_.work(); }
  void run(BlockFeed& feed) override { operation_.run(feed); }
  Napi::Value result(Napi::Env env) override {
    if constexpr (requires { operation_.code_out_of_range(); }) {
      if (operation_.code_out_of_range()) throw Napi::RangeError::New(env, "codes: a code has no codeword");
    }
    return env.Undefined();
  }

 private:
  std::shared_ptr<const void> owner_;
  Operation operation_;
};

}  // namespace rvq
