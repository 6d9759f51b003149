// The JavaScript class CudaMemory, arrays that stay on a device, and the operations on them.

#include "cuda_memory.h"

#include <utility>

#include "../cuda/device_state.h"
#include "../cuda/lane.h"
#include "../cuda/resident.h"
#include "../cuda/resident_learning.h"
#include "../cuda/staging_room.h"
#include "arguments.h"
#include "cuda_call.h"
#include "cuda_device.h"
#include "cuda_release.h"
#include "cuda_task.h"
#include "job.h"
#include "requests.h"

namespace rvq {

namespace {

// Distinguishes its objects from others that have been wrapped.
constexpr napi_type_tag kTag = {0x7276712d63756461, 0x2d6d656d6f727931};

// vectors[count][dim], the request's, in memory of the device.
struct ResidentVectors {
  size_t count;
  size_t dim;
  std::shared_ptr<const CudaMemory::Block> block;
  const float* first;

  ResidentVectors(Napi::Env env, Arguments& arguments, int device, size_t least_count = 0)
      : count(arguments.size_between("count", least_count, kMostResidentRows)),
        dim(arguments.size_between("dim", 1, 1u << 24)),
        block(CudaMemory::of(arguments.value("vectors"), "vectors", device,
                             product(env, product(env, count, dim), sizeof(float)))),
        first(static_cast<const float*>(block->bytes.data())) {}
};

}  // namespace

Napi::Function CudaMemory::define(Napi::Env env) {
  return DefineClass(env, "CudaMemory",
                     {
                         InstanceMethod("upload", &CudaMemory::upload),
                         InstanceMethod("download", &CudaMemory::download),
                         InstanceMethod("dispose", &CudaMemory::dispose),
                     });
}

CudaMemory::CudaMemory(const Napi::CallbackInfo& info) : Napi::ObjectWrap<CudaMemory>(info) {
  Arguments arguments(info[0]);
  auto block = std::make_unique<Block>();
  block->options = read_cuda_options(arguments);
  int device = block->options.device;
  size_t bytes = arguments.size("bytes");
  run_coded(info.Env(), [&] { cuda::on_device(device, [&] { block->bytes = cuda::allocate_resident(bytes); }); });
  info.This().As<Napi::Object>().TypeTag(&kTag);
  block_ = released_late(std::move(block));
  Napi::MemoryManagement::AdjustExternalMemory(info.Env(), static_cast<int64_t>(block_->bytes.size()));
}

void CudaMemory::Finalize(Napi::BasicEnv env) { release(env); }

void CudaMemory::release(Napi::BasicEnv env) {
  if (!block_) return;
  Napi::MemoryManagement::AdjustExternalMemory(env, -static_cast<int64_t>(block_->bytes.size()));
  block_.reset();
}

std::shared_ptr<const CudaMemory::Block> CudaMemory::of(const Napi::Value& value, const char* name, int device,
                                                        size_t least) {
  bool tagged = value.IsObject() && value.As<Napi::Object>().CheckTypeTag(&kTag);
  std::shared_ptr<const Block> block;
  if (tagged) block = Unwrap(value.As<Napi::Object>())->block_;
  if (!block || block->options.device != device || block->bytes.size() < least) {
    throw Napi::TypeError::New(value.Env(), std::string(name) + ": expected CudaMemory of " + std::to_string(least) +
                                                " bytes on device " + std::to_string(device));
  }
  return block;
}

CudaMemory::Rows CudaMemory::rows_of(Napi::Env env, const Arguments& arguments, int device, size_t count, size_t dim) {
  if (!arguments.has("resident")) return {nullptr, nullptr};
  size_t first = arguments.size("firstRow");
  size_t last = product(env, product(env, first + count, dim), sizeof(float));
  std::shared_ptr<const Block> block = of(arguments.value("resident"), "resident", device, last);
  return {block, static_cast<const float*>(block->bytes.data()) + first * dim};
}

Napi::Value CudaMemory::upload(const Napi::CallbackInfo& info) { return copy(info, "source", true); }

Napi::Value CudaMemory::download(const Napi::CallbackInfo& info) { return copy(info, "target", false); }

Napi::Value CudaMemory::copy(const Napi::CallbackInfo& info, const char* name, bool to_device) {
  Napi::Env env = info.Env();
  std::shared_ptr<const Block> block = block_;  // a getter of the request may dispose of this object
  if (!block) throw Napi::Error::New(env, "this memory has been disposed of");
  Arguments arguments(info[0]);
  size_t bytes = 0;
  void* host = arguments.numbers(name, &bytes);
  size_t offset = arguments.size_between("offset", 0, block->bytes.size());
  if (bytes > block->bytes.size() - offset)
    throw arguments.error(name, "no more bytes than the memory has from offset");
  auto direction = to_device ? cuda::HostCopy::Direction::kToDevice : cuda::HostCopy::Direction::kFromDevice;
  char* place = static_cast<char*>(block->bytes.data()) + offset;
  auto call = std::make_unique<CudaCall<cuda::HostCopy>>(block, block->options, direction, place, host, bytes,
                                                         cuda::is_pinned(host, bytes));
  return Jobs::run_later(env, std::move(call), 1, arguments.arrays());
}

Napi::Value CudaMemory::dispose(const Napi::CallbackInfo& info) {
  release(info.Env());
  return info.Env().Undefined();
}

Napi::Value cuda_accumulate_resident(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  Arguments arguments(info[0]);
  int device = read_device(Arguments(info[1]));
  ResidentVectors vectors(env, arguments, device);
  cuda::ResidentAccumulateRequest request{};
  request.vectors = vectors.first;
  request.count = vectors.count;
  request.dim = vectors.dim;
  request.code_stages = arguments.size_between("codeStages", 1, 1u << 20);
  request.stage = arguments.size_between("stage", 0, request.code_stages - 1);
  request.num_codewords = arguments.size_between("numCodewords", 1, UINT32_MAX);
  request.grid_exponents = read_grid_exponents(request.dim, arguments);
  request.counts = arguments.doubles("counts", request.num_codewords);
  request.sums = arguments.doubles("sums", product(env, request.num_codewords, request.dim));
  bool wide = arguments.boolean("wide");
  size_t code_bytes = product(env, product(env, request.count, request.code_stages), wide ? 4 : 2);
  auto codes = CudaMemory::of(arguments.value("codes"), "codes", device, code_bytes);
  request.codes = {codes->bytes.data(), wide};
  auto outcome = std::make_shared<cuda::ResidentOutcome>();
  auto call = std::make_unique<CudaTask>(
      [=] {
        *outcome = cuda::accumulate_resident(device, request);
        (void)vectors, (void)codes;
      },
      [outcome](Napi::Env env) { return resident_answer(env, *outcome); });
  return Jobs::run_later(env, std::move(call), 1, arguments.arrays());
}

Napi::Value cuda_magnitudes_resident(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  Arguments arguments(info[0]);
  CudaOptions options = read_cuda_options(Arguments(info[1]));
  ResidentVectors vectors(env, arguments, options.device);
  float* magnitudes = arguments.floats("magnitudes", vectors.dim);
  auto call = std::make_unique<CudaCall<cuda::ResidentMagnitudes>>(vectors.block, options, vectors.first, vectors.count,
                                                                   vectors.dim, magnitudes);
  return Jobs::run_later(env, std::move(call), 1, arguments.arrays());
}

Napi::Value cuda_gather_resident(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  Arguments arguments(info[0]);
  CudaOptions options = read_cuda_options(Arguments(info[1]));
  ResidentVectors vectors(env, arguments, options.device);
  size_t wanted = arguments.size_between("wanted", 0, kMostResidentRows);
  uint32_t* rows = arguments.words("rows", wanted);
  float* gathered = arguments.floats("gathered", product(env, wanted, vectors.dim));
  auto call = std::make_unique<CudaCall<cuda::ResidentGather>>(vectors.block, options, vectors.first, vectors.count,
                                                               vectors.dim, rows, wanted, gathered);
  return Jobs::run_later(env, std::move(call), 1, arguments.arrays());
}

Napi::Value cuda_draw_resident(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  Arguments arguments(info[0]);
  int device = read_device(Arguments(info[1]));
  ResidentVectors vectors(env, arguments, device, 1);
  cuda::ResidentSeedingRequest request{};
  request.vectors = vectors.first;
  request.count = vectors.count;
  request.dim = vectors.dim;
  request.weights = arguments.floats_or_null("weights", request.dim);
  request.fresh = arguments.boolean("fresh");
  request.last = static_cast<uint32_t>(arguments.size_between("last", 0, request.count - 1));
  request.draws = arguments.size_between("draws", 0, 1u << 20);
  request.fractions = arguments.doubles("fractions", request.draws);
  request.rows = arguments.words("rows", request.draws);
  auto distances = CudaMemory::of(arguments.value("distances"), "distances", device, request.count * sizeof(double));
  if (vectors.block == distances) throw arguments.error("distances", "memory apart from the vectors'");
  request.distances = static_cast<double*>(distances->bytes.data());
  auto call = std::make_unique<CudaTask>(
      [=] {
        cuda::draw_resident(device, request);
        (void)vectors, (void)distances;
      },
      [](Napi::Env env) { return env.Undefined(); });
  return Jobs::run_later(env, std::move(call), 1, arguments.arrays());
}

Napi::Value resident_answer(Napi::Env env, const cuda::ResidentOutcome& outcome) {
  if (outcome.code_out_of_range) throw Napi::RangeError::New(env, "codes: a code has no codeword");
  Napi::Object answer = Napi::Object::New(env);
  const auto& bad = outcome.bad;
  answer.Set("bad", bad ? bad_input_object(env, bad->zero, bad->row, bad->column) : env.Null());
  answer.Set("kernelMs", static_cast<double>(outcome.kernel_ms));
  return answer;
}

}  // namespace rvq
