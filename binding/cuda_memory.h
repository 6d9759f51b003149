// The JavaScript class CudaMemory, arrays that stay on a device, and the operations on them.

#pragma once

#include <napi.h>

#include <memory>

#include "../cuda/device_memory.h"
#include "../cuda/resident.h"
#include "arguments.h"
#include "cuda_device.h"

namespace rvq {

// new CudaMemory({ device, threads, bytes }). upload({ source, offset }) and download({ target, offset }) copy a
// Float32Array, Uint16Array or Uint32Array to the bytes from `offset` on, or from there. Memory is freed when it has
// been disposed of, or collected, and no call uses it any more.
class CudaMemory : public Napi::ObjectWrap<CudaMemory> {
 public:
  static Napi::Function define(Napi::Env env);

  explicit CudaMemory(const Napi::CallbackInfo& info);
  void Finalize(Napi::BasicEnv env) override;

  struct Block {
    CudaOptions options;
    cuda::DeviceBytes bytes;
  };

  // The memory behind a field of a request, of `least` bytes or more on the device; throws a TypeError otherwise.
  static std::shared_ptr<const Block> of(const Napi::Value& value, const char* name, int device, size_t least);

  // { resident, firstRow }: the rows of a request that are on the device too, in memory that starts with row 0; null
  // where the request has none.
  struct Rows {
    std::shared_ptr<const Block> block;
    const float* first;
  };
  static Rows rows_of(Napi::Env env, const Arguments& arguments, int device, size_t count, size_t dim);

 private:
  Napi::Value upload(const Napi::CallbackInfo& info);
  Napi::Value download(const Napi::CallbackInfo& info);
  Napi::Value dispose(const Napi::CallbackInfo& info);

  Napi::Value copy(const Napi::CallbackInfo& info, const char* name, bool to_device);
  void release(Napi::BasicEnv env);

  // Shared with the calls in flight; empty after dispose().
  std::shared_ptr<const Block> block_;
};

// Rows of an array on a device: kernels count them, twice, in 31 bits.
constexpr size_t kMostResidentRows = (1u << 30) - 1;

// { bad, kernelMs }: a BadInput or null, and how long the kernels took by the device's clock. Throws a RangeError where
// a code had no codeword.
Napi::Value resident_answer(Napi::Env env, const cuda::ResidentOutcome& outcome);

// cudaAccumulateResident({ vectors, count, dim, codes, wide, codeStages, stage, numCodewords, gridExponents, counts,
// sums }, { device }): `vectors` and `codes` are CudaMemory; a promise of a resident_answer.
Napi::Value cuda_accumulate_resident(const Napi::CallbackInfo& info);

// cudaMagnitudesResident({ vectors, count, dim, magnitudes }, { device }): `vectors` is CudaMemory, `magnitudes` the
// host's.
Napi::Value cuda_magnitudes_resident(const Napi::CallbackInfo& info);

// cudaGatherResident({ vectors, count, dim, rows, wanted, gathered }, { device }): `vectors` is CudaMemory, `rows` and
// `gathered`, the output, the host's; a promise. Throws a RangeError where a row is not below `count`.
Napi::Value cuda_gather_resident(const Napi::CallbackInfo& info);

// cudaDrawResident({ vectors, count, dim, weights, distances, fresh, last, fractions, draws, rows }, { device }):
// `vectors` and `distances` are CudaMemory, `weights`, `fractions` and `rows`, the output, the host's; a promise.
Napi::Value cuda_draw_resident(const Napi::CallbackInfo& info);

}  // namespace rvq
