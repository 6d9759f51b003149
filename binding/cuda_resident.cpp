// The operations of CudaCodebooks on arrays that stay on the device.

#include <functional>
#include <utility>
#include <vector>

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

Memory read_doubles(const Prepared& prepared, Napi::Env env, const Arguments& arguments, const char* name, size_t a,
                    size_t b = 1) {
  size_t bytes = product(env, product(env, a, b), sizeof(double));
  return CudaMemory::of(arguments.value(name), name, prepared->codebooks->device(), bytes);
}

template <typename T>
T* start_of(const Memory& memory) {
  return memory ? static_cast<T*>(memory->bytes.data()) : nullptr;
}

size_t read_stage(const Prepared& prepared, const Arguments& arguments) {
  return arguments.size_between("stage", 0, prepared->shape.codebook_sizes.size() - 1);
}

// `work` keeps the memory that it uses.
Napi::Value run(Napi::Env env, std::function<cuda::ResidentOutcome()> work,
                const std::vector<Napi::Object>& arrays = {}) {
  auto outcome = std::make_shared<cuda::ResidentOutcome>();
  auto call = std::make_unique<CudaTask>([outcome, work = std::move(work)] { *outcome = work(); },
                                         [outcome](Napi::Env env) { return resident_answer(env, *outcome); });
  return Jobs::run_later(env, std::move(call), 1, arrays);
}

// A copy of the codewords of a stage to the device or back.
Napi::Value copy_codewords(const Prepared& prepared, Napi::Env env, Arguments& arguments, const char* name,
                           cuda::HostCopy::Direction direction) {
  size_t stage = read_stage(prepared, arguments);
  size_t length = product(env, prepared->shape.codebook_sizes[stage], prepared->shape.dim);
  float* here = arguments.floats(name, length);
  float* there = prepared->codebooks->codewords(stage);
  auto call = std::make_unique<CudaCall<cuda::HostCopy>>(prepared, prepared->options, direction, there, here,
                                                         length * sizeof(float), false);
  return Jobs::run_later(env, std::move(call), 1, arguments.arrays());
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
  bool pack = std::exchange(prepared->changed, false);
  return run(env, [=] {
    return cuda::encode_resident(
        *prepared->codebooks,
        {start_of<const float>(vectors), count, stages, {codes->bytes.data(), wide}, start_of<float>(residuals), pack});
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

Napi::Value CudaCodebooks::learn_resident(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  Prepared prepared = this->prepared(env);
  Arguments arguments(info[0]);
  const Shape& shape = prepared->shape;
  cuda::ResidentLearnRequest request{};
  request.count = arguments.size_between("count", 0, kMostResidentRows);
  request.stage = read_stage(prepared, arguments);
  request.code_stages = arguments.size_between("codeStages", request.stage + 1, 1u << 20);
  size_t num_codewords = shape.codebook_sizes[request.stage];
  Memory vectors = read_matrix(prepared, env, arguments, "vectors", request.count);
  Memory codes = read_codes(prepared, env, arguments, request.count, request.code_stages);
  Memory residuals;
  if (arguments.has("residuals")) residuals = read_matrix(prepared, env, arguments, "residuals", request.count);
  if (codes == vectors || codes == residuals) {
    throw arguments.error("codes", "memory apart from the vectors' and the residuals'");
  }
  Memory stages_of_row;
  if (arguments.has("stagesOfRow")) {
    size_t bytes = product(env, request.count, sizeof(uint16_t));
    int device = prepared->codebooks->device();
    stages_of_row = CudaMemory::of(arguments.value("stagesOfRow"), "stagesOfRow", device, bytes);
  }
  Memory distances_before;
  if (arguments.has("distancesBefore")) {
    distances_before = read_doubles(prepared, env, arguments, "distancesBefore", request.count);
  }
  Memory distances = read_doubles(prepared, env, arguments, "distances", request.count);
  Memory plain_distances;
  if (prepared->codebooks->weights() != nullptr) {
    plain_distances = read_doubles(prepared, env, arguments, "plainDistances", request.count);
  }
  Memory usage = read_doubles(prepared, env, arguments, "usage", num_codewords);
  Memory averages = read_doubles(prepared, env, arguments, "averages", num_codewords, shape.dim);
  request.vectors = start_of<const float>(vectors);
  request.codes = {codes->bytes.data(), arguments.boolean("wide")};
  request.stages_of_row = start_of<const uint16_t>(stages_of_row);
  request.distances_before = start_of<const double>(distances_before);
  request.distances = start_of<double>(distances);
  request.plain_distances = start_of<double>(plain_distances);
  request.residuals = start_of<float>(residuals);
  request.usage = start_of<double>(usage);
  request.averages = start_of<double>(averages);
  request.grid_exponents = arguments.integers("gridExponents", shape.dim);
  request.decay = arguments.number("decay");
  request.epsilon = arguments.number("epsilon");
  request.encodec = arguments.boolean("encodec");
  request.unused = arguments.boolean("unused");
  request.masses = arguments.doubles("masses", num_codewords);
  request.usage_after = arguments.doubles("usageAfter", num_codewords);
  constexpr size_t kErrors = sizeof(cuda::StageErrors) / sizeof(double);
  request.errors = reinterpret_cast<cuda::StageErrors*>(arguments.doubles("errors", kErrors));
  prepared->changed = true;
  auto used = {vectors, codes, residuals, stages_of_row, distances_before, distances, plain_distances, usage, averages};
  return run(
      env,
      [prepared, request, used = std::vector<Memory>(used)] {
        return cuda::learn_resident(*prepared->codebooks, request);
      },
      arguments.arrays());
}

Napi::Value CudaCodebooks::codeword_magnitudes_resident(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  Prepared prepared = this->prepared(env);
  Arguments arguments(info[0]);
  const Shape& shape = prepared->shape;
  float* magnitudes = arguments.floats("magnitudes", product(env, shape.codebook_sizes.size(), shape.dim));
  return run(
      env, [=] { return cuda::codeword_magnitudes(*prepared->codebooks, magnitudes); }, arguments.arrays());
}

Napi::Value CudaCodebooks::load_codewords_resident(const Napi::CallbackInfo& info) {
  Prepared prepared = this->prepared(info.Env());
  Arguments arguments(info[0]);
  Napi::Value copied = copy_codewords(prepared, info.Env(), arguments, "source", cuda::HostCopy::Direction::kToDevice);
  prepared->changed = true;
  return copied;
}

Napi::Value CudaCodebooks::read_codewords_resident(const Napi::CallbackInfo& info) {
  Arguments arguments(info[0]);
  return copy_codewords(prepared(info.Env()), info.Env(), arguments, "target", cuda::HostCopy::Direction::kFromDevice);
}

}  // namespace rvq
