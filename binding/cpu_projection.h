// The JavaScript class CpuProjection: a prepared linear map of vectors.

#pragma once

#include <napi.h>

#include <memory>

namespace rvq {

struct PreparedProjection;

// new CpuProjection({ inDim, outDim, weight, bias, threads, instructionSet }); requests as in lib/backend.ts.
class CpuProjection : public Napi::ObjectWrap<CpuProjection> {
 public:
  static Napi::Function define(Napi::Env env);

  explicit CpuProjection(const Napi::CallbackInfo& info);
  void Finalize(Napi::BasicEnv env) override;

 private:
  Napi::Value project(const Napi::CallbackInfo& info);
  Napi::Value project_sync(const Napi::CallbackInfo& info);
  Napi::Value dispose(const Napi::CallbackInfo& info);

  // A share of its own: a getter of the request may dispose of this object.
  std::shared_ptr<const PreparedProjection> prepared(Napi::Env env) const;
  void release(Napi::BasicEnv env);

  // Shared with the calls in flight; empty after dispose().
  std::shared_ptr<const PreparedProjection> prepared_;
};

}  // namespace rvq
