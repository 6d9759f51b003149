// The JavaScript class CudaCodebooks: codebooks prepared on a device and the operations that need them.

#pragma once

#include <napi.h>

#include <memory>

namespace rvq {

struct CudaPrepared;

// new CudaCodebooks({ dim, metric, weights, codebooks, device, threads }); requests as in lib/backend.ts, without
// `beam`. Errors of the device have a `code`: "OUT_OF_MEMORY", "DEVICE_LOST" or "CUDA".
class CudaCodebooks : public Napi::ObjectWrap<CudaCodebooks> {
 public:
  static Napi::Function define(Napi::Env env);

  explicit CudaCodebooks(const Napi::CallbackInfo& info);
  void Finalize(Napi::BasicEnv env) override;

 private:
  Napi::Value encode(const Napi::CallbackInfo& info);
  Napi::Value encode_sync(const Napi::CallbackInfo& info);
  Napi::Value decode(const Napi::CallbackInfo& info);
  Napi::Value decode_sync(const Napi::CallbackInfo& info);
  Napi::Value distances(const Napi::CallbackInfo& info);
  Napi::Value distances_sync(const Napi::CallbackInfo& info);
  Napi::Value assign(const Napi::CallbackInfo& info);
  // With CudaMemory: encodeResident({ vectors, first, count, stages, codes, wide, residuals }), decodeResident({ codes,
  // wide, count, codeStages, stages, vectors }); promises of a resident_answer. Requests of the others, for learning,
  // as in lib/backend.ts: outputs on the host are masses, usageAfter, errors, countsAfter, totals and magnitudes.
  Napi::Value encode_resident(const Napi::CallbackInfo& info);
  Napi::Value decode_resident(const Napi::CallbackInfo& info);
  Napi::Value learn_resident(const Napi::CallbackInfo& info);
  Napi::Value means_resident(const Napi::CallbackInfo& info);
  Napi::Value codeword_magnitudes_resident(const Napi::CallbackInfo& info);
  Napi::Value load_codewords_resident(const Napi::CallbackInfo& info);
  Napi::Value read_codewords_resident(const Napi::CallbackInfo& info);
#ifdef RVQ_TESTING
  // testScreen(): "wgmma", "float16", "int8" or "none".
  Napi::Value test_screen(const Napi::CallbackInfo& info);
  // testReplace({ dim, metric, weights, codebooks }): other codewords in the place of these, packed again.
  Napi::Value test_replace(const Napi::CallbackInfo& info);
#endif
  Napi::Value dispose(const Napi::CallbackInfo& info);

  // A share of its own: a getter of the request may dispose of this object.
  std::shared_ptr<const CudaPrepared> prepared(Napi::Env env) const;
  void release(Napi::BasicEnv env);

  // Shared with the calls in flight; empty after dispose().
  std::shared_ptr<const CudaPrepared> prepared_;
};

}  // namespace rvq
