// The operations of CudaCodebooks on arrays that stay on the device.

#include <algorithm>
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

Memory read_codes(const Prepared& prepared, Napi::Env env, const Arguments& arguments, const char* name, size_t count,
                  size_t stages, bool wide) {
  size_t bytes = product(env, product(env, count, stages), wide ? 4 : 2);
  return CudaMemory::of(arguments.value(name), name, prepared->codebooks->device(), bytes);
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

// For memory that a call writes while it reads the others, or reads them again.
void require_apart(const Arguments& arguments, const char* name, const Memory& memory,
                   const std::vector<Memory>& others) {
  if (std::find(others.begin(), others.end(), memory) == others.end()) return;
  throw arguments.error(name, "memory apart from that of other arrays");
}

// What every end of a stage has; the memory goes to `used`, vectors and codes first.
cuda::CodedRows read_coded_rows(const Prepared& prepared, Napi::Env env, Arguments& arguments,
                                std::vector<Memory>* used) {
  cuda::CodedRows rows{};
  rows.count = arguments.size_between("count", 0, kMostResidentRows);
  rows.stage = read_stage(prepared, arguments);
  rows.code_stages = arguments.size_between("codeStages", rows.stage + 1, 1u << 20);
  bool wide = arguments.boolean("wide");
  Memory vectors = read_matrix(prepared, env, arguments, "vectors", rows.count);
  Memory codes = read_codes(prepared, env, arguments, "codes", rows.count, rows.code_stages, wide);
  require_apart(arguments, "codes", codes, {vectors});
  Memory distances = read_doubles(prepared, env, arguments, "distances", rows.count);
  require_apart(arguments, "distances", distances, {vectors, codes});
  Memory plain_distances;
  if (prepared->codebooks->weights() != nullptr) {
    plain_distances = read_doubles(prepared, env, arguments, "plainDistances", rows.count);
    require_apart(arguments, "plainDistances", plain_distances, {vectors, codes, distances});
  }
  rows.vectors = start_of<const float>(vectors);
  rows.codes = {codes->bytes.data(), wide};
  rows.distances = start_of<double>(distances);
  rows.plain_distances = start_of<double>(plain_distances);
  rows.grid_exponents = read_grid_exponents(prepared->shape.dim, arguments);
  *used = {vectors, codes, distances, plain_distances};
  return rows;
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
  size_t first = arguments.has("first") ? arguments.size_between("first", 0, kMostResidentRows - count) : 0;
  size_t stages = arguments.size_between("stages", 1, shape.codebook_sizes.size());
  bool wide = arguments.boolean("wide");
  for (size_t s = 0; s < stages; s++) {
    if (!wide && shape.codebook_sizes[s] > 65536) throw arguments.error("wide", "true for more than 65536 codewords");
  }
  Memory vectors = read_matrix(prepared, env, arguments, "vectors", first + count);
  Memory codes = read_codes(prepared, env, arguments, "codes", first + count, stages, wide);
  Memory residuals;
  if (arguments.has("residuals")) residuals = read_matrix(prepared, env, arguments, "residuals", first + count);
  if (codes == vectors || codes == residuals) throw arguments.error("codes", "memory apart from that of other arrays");
  cuda::ResidentEncodeRequest request{};
  request.vectors = start_of<const float>(vectors) + first * shape.dim;
  request.count = count;
  request.stages = stages;
  request.codes = cuda::DeviceCodes{start_of<void>(codes), wide}.from(first * stages);
  if (residuals) request.residuals = start_of<float>(residuals) + first * shape.dim;
  request.pack = count > 0 && prepared->changed.exchange(false);
  return run(env, [prepared, request, used = std::vector<Memory>{vectors, codes, residuals}] {
    try {
      return cuda::encode_resident(*prepared->codebooks, request);
    } catch (...) {
      if (request.pack) prepared->changed = true;
      throw;
    }
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
  Memory codes = read_codes(prepared, env, arguments, "codes", count, code_stages, wide);
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
  std::vector<Memory> used;
  cuda::ResidentLearnRequest request{};
  request.rows = read_coded_rows(prepared, env, arguments, &used);
  const cuda::CodedRows& rows = request.rows;
  if (arguments.has("residuals")) {
    Memory residuals = read_matrix(prepared, env, arguments, "residuals", rows.count);
    const Memory& codes = used[1];
    require_apart(arguments, "residuals", residuals, {codes});
    used.push_back(residuals);
    request.rows.residuals = start_of<float>(residuals);
  }
  if (arguments.has("stagesOfRow")) {
    size_t bytes = product(env, rows.count, sizeof(uint16_t));
    int device = prepared->codebooks->device();
    used.push_back(CudaMemory::of(arguments.value("stagesOfRow"), "stagesOfRow", device, bytes));
    request.rows.stages_of_row = start_of<const uint16_t>(used.back());
  }
  if (arguments.has("distancesBefore")) {
    used.push_back(read_doubles(prepared, env, arguments, "distancesBefore", rows.count));
    request.rows.distances_before = start_of<const double>(used.back());
  }
  size_t num_codewords = prepared->shape.codebook_sizes[rows.stage];
  used.push_back(read_doubles(prepared, env, arguments, "usage", num_codewords));
  request.usage = start_of<double>(used.back());
  used.push_back(read_doubles(prepared, env, arguments, "averages", num_codewords, prepared->shape.dim));
  request.averages = start_of<double>(used.back());
  request.decay = arguments.number("decay");
  request.epsilon = arguments.number("epsilon");
  request.encodec = arguments.boolean("encodec");
  request.unused = arguments.boolean("unused");
  request.masses = arguments.doubles("masses", num_codewords);
  request.usage_after = arguments.doubles("usageAfter", num_codewords);
  constexpr size_t kErrors = sizeof(cuda::StageErrors) / sizeof(double);
  request.errors = reinterpret_cast<cuda::StageErrors*>(arguments.doubles("errors", kErrors));
  prepared->changed = true;
  return run(
      env, [prepared, request, used] { return cuda::learn_resident(*prepared->codebooks, request); },
      arguments.arrays());
}

Napi::Value CudaCodebooks::means_resident(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  Prepared prepared = this->prepared(env);
  Arguments arguments(info[0]);
  std::vector<Memory> used;
  cuda::ResidentMeansRequest request{};
  request.rows = read_coded_rows(prepared, env, arguments, &used);
  const cuda::CodedRows& rows = request.rows;
  if (arguments.has("previousCodes")) {
    Memory previous =
        read_codes(prepared, env, arguments, "previousCodes", rows.count, rows.code_stages, rows.codes.wide);
    require_apart(arguments, "previousCodes", previous, used);
    used.push_back(previous);
    request.previous = start_of<void>(previous);
  }
  size_t num_codewords = prepared->shape.codebook_sizes[rows.stage];
  Memory counts = read_doubles(prepared, env, arguments, "counts", num_codewords);
  require_apart(arguments, "counts", counts, used);
  used.push_back(counts);
  request.counts = start_of<long long>(counts);
  Memory sums = read_doubles(prepared, env, arguments, "sums", num_codewords, prepared->shape.dim);
  require_apart(arguments, "sums", sums, used);
  used.push_back(sums);
  request.sums = start_of<long long>(sums);
  request.shrinkage = arguments.number("shrinkage");
  request.counts_after = arguments.doubles("countsAfter", num_codewords);
  double* totals = arguments.doubles("totals", 2);
  request.error = totals;
  request.moved = totals + 1;
  prepared->changed = true;
  return run(
      env, [prepared, request, used] { return cuda::means_resident(*prepared->codebooks, request); },
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
  Prepared prepared = this->prepared(info.Env());
  Arguments arguments(info[0]);
  return copy_codewords(prepared, info.Env(), arguments, "target", cuda::HostCopy::Direction::kFromDevice);
}

}  // namespace rvq
