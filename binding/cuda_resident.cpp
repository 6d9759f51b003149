// The operations of CudaCodebooks on arrays that stay on the device.

#include <utility>

#include "../cuda/resident.h"
#include "../cuda/resident_learning.h"
#include "arguments.h"
#include "cuda_call.h"
#include "cuda_codebooks.h"
#include "cuda_memory.h"
#include "cuda_prepared.h"
#include "cuda_task.h"
#include "job.h"

namespace rvq {

namespace {

using Memory = std::shared_ptr<const CudaMemory::Block>;
using Prepared = std::shared_ptr<const CudaPrepared>;

Memory read_matrix(const Prepared& prepared, Napi::Env env, const Arguments& arguments, const char* name,
                   size_t count) {
  size_t bytes = product(env, product(env, count, prepared->shape.dim), sizeof(float));
  return CudaMemory::of(arguments.value(name), name, prepared->codebooks->device(), bytes);
}

Memory read_codes(const Prepared& prepared, Napi::Env env, const Arguments& arguments, size_t count, size_t stages) {
  size_t bytes = product(env, product(env, count, stages), arguments.boolean("wide") ? 4 : 2);
  return CudaMemory::of(arguments.value("codes"), "codes", prepared->codebooks->device(), bytes);
}

// What a call uses while it runs.
struct PassOnMemory {
  Prepared prepared;
  Memory vectors;
  Memory codes;
  Memory residuals;
};

// `work` keeps the memory that it uses.
Napi::Value run(Napi::Env env, std::function<cuda::ResidentOutcome()> work) {
  auto outcome = std::make_shared<cuda::ResidentOutcome>();
  auto call = std::make_unique<CudaTask>([outcome, work = std::move(work)] { *outcome = work(); },
                                         [outcome](Napi::Env env) { return resident_answer(env, *outcome); });
  return Jobs::run_later(env, std::move(call), 1, {});
}

}  // namespace

Napi::Value CudaCodebooks::encode_resident(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  Prepared prepared = this->prepared(env);
  Arguments arguments(info[0]);
  const Shape& shape = prepared->shape;
  size_t count = arguments.size_between("count", 0, kMostResidentRows);
  size_t stages = arguments.size_between("stages", 1, shape.codebook_sizes.size());
  bool wide = arguments.boolean("wide");
  for (size_t s = 0; s < stages; s++) {
    if (!wide && shape.codebook_sizes[s] > 65536) throw arguments.error("wide", "true for more than 65536 codewords");
  }
  Memory vectors = read_matrix(prepared, env, arguments, "vectors", count);
  Memory codes = read_codes(prepared, env, arguments, count, stages);
  Memory residuals;
  if (arguments.has("residuals")) residuals = read_matrix(prepared, env, arguments, "residuals", count);
  if (codes == vectors || codes == residuals || residuals == vectors) {
    throw arguments.error("codes", "vectors, codes and residuals to be three memories");
  }
  return run(env, [=] {
    void* out = residuals ? residuals->bytes.data() : nullptr;
    return cuda::encode_resident(*prepared->codebooks, {static_cast<const float*>(vectors->bytes.data()),
                                                        count,
                                                        stages,
                                                        {codes->bytes.data(), wide},
                                                        static_cast<float*>(out)});
  });
}

Napi::Value CudaCodebooks::decode_resident(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  Prepared prepared = this->prepared(env);
  Arguments arguments(info[0]);
  size_t count = arguments.size_between("count", 0, kMostResidentRows);
  size_t stages = arguments.size_between("stages", 1, prepared->shape.codebook_sizes.size());
  size_t code_stages = arguments.size_between("codeStages", stages, 1u << 20);
  bool wide = arguments.boolean("wide");
  Memory codes = read_codes(prepared, env, arguments, count, code_stages);
  Memory vectors = read_matrix(prepared, env, arguments, "vectors", count);
  if (codes == vectors) throw arguments.error("vectors", "memory apart from the codes'");
  return run(env, [=] {
    return cuda::decode_resident(
        *prepared->codebooks,
        {{codes->bytes.data(), wide}, count, code_stages, stages, static_cast<float*>(vectors->bytes.data())});
  });
}

Napi::Value CudaCodebooks::pass_on_resident(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  Prepared prepared = this->prepared(env);
  Arguments arguments(info[0]);
  const Shape& shape = prepared->shape;
  cuda::ResidentPassOnRequest request{};
  request.count = arguments.size_between("count", 0, kMostResidentRows);
  request.stage = arguments.size_between("stage", 0, shape.codebook_sizes.size() - 1);
  request.code_stages = arguments.size_between("codeStages", request.stage + 1, 1u << 20);
  bool wide = arguments.boolean("wide");
  auto used = std::make_shared<PassOnMemory>();
  used->prepared = prepared;
  used->vectors = read_matrix(prepared, env, arguments, "vectors", request.count);
  used->codes = read_codes(prepared, env, arguments, request.count, request.code_stages);
  if (arguments.has("residuals")) used->residuals = read_matrix(prepared, env, arguments, "residuals", request.count);
  if (used->codes == used->vectors || used->codes == used->residuals) {
    throw arguments.error("codes", "memory apart from the vectors' and the residuals'");
  }
  request.vectors = static_cast<const float*>(used->vectors->bytes.data());
  request.codes = {used->codes->bytes.data(), wide};
  request.residuals = used->residuals ? static_cast<float*>(used->residuals->bytes.data()) : nullptr;
  request.distances = arguments.doubles("distances", request.count);
  if (arguments.has("plainDistances")) request.plain_distances = arguments.doubles("plainDistances", request.count);
  const cuda::Codebooks& codebooks = *prepared->codebooks;
  auto call = std::make_unique<CudaCall<cuda::ResidentPassOn>>(used, prepared->options, codebooks, request);
  return Jobs::run_later(env, std::move(call), 1, arguments.arrays());
}

}  // namespace rvq
