// The JavaScript class CpuCodebooks: prepared codebooks and the operations that need them.

#pragma once

#include <napi.h>

#include <memory>

namespace rvq {

struct PreparedCodebooks;

// new CpuCodebooks({ dim, metric, weights, codebooks, previous, threads, instructionSet }); requests as in
// lib/backend.ts.
class CpuCodebooks : public Napi::ObjectWrap<CpuCodebooks> {
 public:
  static Napi::Function define(Napi::Env env);

  explicit CpuCodebooks(const Napi::CallbackInfo& info);
  void Finalize(Napi::BasicEnv env) override;

 private:
  Napi::Value encode(const Napi::CallbackInfo& info);
  Napi::Value encode_sync(const Napi::CallbackInfo& info);
  Napi::Value decode(const Napi::CallbackInfo& info);
  Napi::Value decode_sync(const Napi::CallbackInfo& info);
  Napi::Value distances(const Napi::CallbackInfo& info);
  Napi::Value distances_sync(const Napi::CallbackInfo& info);
  Napi::Value assign(const Napi::CallbackInfo& info);
  Napi::Value dispose(const Napi::CallbackInfo& info);
#ifdef RVQ_TESTING
  Napi::Value screen_verdicts(const Napi::CallbackInfo& info);
  Napi::Value screen_only(const Napi::CallbackInfo& info);  // in cpu_measuring.cpp
#endif

  // A share of its own: a getter of the request may dispose of this object.
  std::shared_ptr<const PreparedCodebooks> prepared(Napi::Env env) const;
  void release(Napi::BasicEnv env);

  // Shared with the calls in flight; empty after dispose().
  std::shared_ptr<const PreparedCodebooks> prepared_;
};

}  // namespace rvq
