// The JavaScript class CudaCodebooks: reads requests, builds the core's operations and runs them now or later.

#include "cuda_codebooks.h"

#include <utility>

#include "../cuda/codebooks.h"
#include "../cuda/device_state.h"
#include "../cuda/host_decode.h"
#include "../cuda/host_search.h"
#include "../cuda/staging_room.h"
#include "../cuda/stream.h"
#include "arguments.h"
#include "cuda_call.h"
#include "cuda_device.h"
#include "cuda_memory.h"
#include "cuda_prepared.h"
#include "cuda_release.h"
#include "job.h"
#include "requests.h"

namespace rvq {

namespace {

using Prepared = std::shared_ptr<const CudaPrepared>;

template <typename Operation, typename Request>
std::unique_ptr<Call> call(const Prepared& prepared, const Request& request) {
  return std::make_unique<CudaCall<Operation>>(prepared, prepared->options, *prepared->codebooks, request);
}

bool pinned_vectors(const Prepared& prepared, const float* vectors, size_t count) {
  return cuda::is_pinned(vectors, count * prepared->shape.dim * sizeof(float));
}

std::unique_ptr<Call> read_encode(const Prepared& prepared, Napi::Env env, Arguments& arguments) {
  cpu::EncodeRequest read = read_encode_request(prepared->shape, env, arguments);
  if (arguments.has("beam")) arguments.size_between("beam", 1, 1);
  bool pinned = pinned_vectors(prepared, read.vectors, read.count);
  cuda::HostEncodeRequest request{read.vectors,           pinned,        read.count, read.stages,
                                  host_codes(read.codes), read.residuals};
  return call<cuda::HostEncode>(prepared, request);
}

std::unique_ptr<Call> read_decode(const Prepared& prepared, Napi::Env env, Arguments& arguments) {
  cpu::DecodeRequest read = read_decode_request(prepared->shape, env, arguments);
  bool pinned = pinned_vectors(prepared, read.vectors, read.count);
  cuda::HostDecodeRequest request{host_codes(read.codes), read.count, read.code_stages, read.stages,
                                  read.vectors,           pinned};
  return call<cuda::HostDecode>(prepared, request);
}

std::unique_ptr<Call> read_distances(const Prepared& prepared, Napi::Env env, Arguments& arguments) {
  cpu::DistancesRequest read = read_distances_request(prepared->shape, env, arguments);
  bool pinned = pinned_vectors(prepared, read.vectors, read.count);
  cuda::HostDistancesRequest request{read.vectors,     pinned,      read.count,    host_codes(read.codes),
                                     read.code_stages, read.stages, read.weighted, read.distances};
  return call<cuda::HostDistances>(prepared, request);
}

std::unique_ptr<Call> read_assign(const Prepared& prepared, Napi::Env env, Arguments& arguments) {
  cpu::AssignRequest read = read_assign_request(prepared->shape, env, arguments);
  int device = prepared->codebooks->device();
  CudaMemory::Rows rows = CudaMemory::rows_of(env, arguments, device, read.count, prepared->shape.dim);
  cuda::HostAssignRequest request{read.vectors,           read.count,     rows.first,
                                  host_codes(read.codes), read.distances, read.plain_distances};
  auto owner = std::make_shared<std::pair<Prepared, CudaMemory::Rows>>(prepared, rows);
  return std::make_unique<CudaCall<cuda::HostAssign>>(owner, prepared->options, *prepared->codebooks, request);
}

std::vector<cuda::CodebookSpec::Stage> stages_of(const cpu::CodebookSpec& spec) {
  std::vector<cuda::CodebookSpec::Stage> stages;
  for (const auto& stage : spec.stages) stages.push_back({stage.codewords, stage.num_codewords});
  return stages;
}

using ReadRequest = std::unique_ptr<Call> (*)(const Prepared&, Napi::Env, Arguments&);

// One thread: it feeds the device, and mostly waits. Others help it to copy.
Napi::Value later(const Prepared& prepared, const Napi::CallbackInfo& info, ReadRequest read) {
  Arguments arguments(info[0]);
  std::unique_ptr<Call> call = read(prepared, info.Env(), arguments);
  return Jobs::run_later(info.Env(), std::move(call), 1, arguments.arrays());
}

Napi::Value now(const Prepared& prepared, const Napi::CallbackInfo& info, ReadRequest read) {
  Arguments arguments(info[0]);
  std::unique_ptr<Call> call = read(prepared, info.Env(), arguments);
  arguments.check_left_alone();
  return run_now(info.Env(), *call, 1);
}

}  // namespace

Napi::Function CudaCodebooks::define(Napi::Env env) {
  return DefineClass(env, "CudaCodebooks",
                     {
                         InstanceMethod("encode", &CudaCodebooks::encode),
                         InstanceMethod("encodeSync", &CudaCodebooks::encode_sync),
                         InstanceMethod("decode", &CudaCodebooks::decode),
                         InstanceMethod("decodeSync", &CudaCodebooks::decode_sync),
                         InstanceMethod("distances", &CudaCodebooks::distances),
                         InstanceMethod("distancesSync", &CudaCodebooks::distances_sync),
                         InstanceMethod("assign", &CudaCodebooks::assign),
                         InstanceMethod("encodeResident", &CudaCodebooks::encode_resident),
                         InstanceMethod("decodeResident", &CudaCodebooks::decode_resident),
                         InstanceMethod("learnResident", &CudaCodebooks::learn_resident),
                         InstanceMethod("meansResident", &CudaCodebooks::means_resident),
                         InstanceMethod("codewordMagnitudesResident", &CudaCodebooks::codeword_magnitudes_resident),
                         InstanceMethod("loadCodewordsResident", &CudaCodebooks::load_codewords_resident),
                         InstanceMethod("readCodewordsResident", &CudaCodebooks::read_codewords_resident),
#ifdef RVQ_TESTING
                         InstanceMethod("testScreen", &CudaCodebooks::test_screen),
                         InstanceMethod("testReplace", &CudaCodebooks::test_replace),
#endif
                         InstanceMethod("dispose", &CudaCodebooks::dispose),
                     });
}

CudaCodebooks::CudaCodebooks(const Napi::CallbackInfo& info) : Napi::ObjectWrap<CudaCodebooks>(info) {
  Arguments arguments(info[0]);
  CudaOptions options = read_cuda_options(arguments);
  int device = options.device;
  cpu::CodebookSpec read = read_spec(arguments);
  check_numbers(read, arguments);
  cuda::CodebookSpec spec{read.dim, read.metric == cpu::Metric::kCosine, read.weights, stages_of(read)};
  auto prepared = std::make_unique<CudaPrepared>();
  prepared->options = options;
  prepared->shape = shape_of(read);
  run_coded(info.Env(), [&] {
    cuda::on_device(device, [&] { prepared->codebooks = std::make_unique<cuda::Codebooks>(spec, device); });
  });
  prepared_ = released_late(std::move(prepared));
  // Device memory counts too: the collector must know that this small object holds it.
  Napi::MemoryManagement::AdjustExternalMemory(info.Env(), static_cast<int64_t>(prepared_->codebooks->size_bytes()));
}

void CudaCodebooks::Finalize(Napi::BasicEnv env) { release(env); }

void CudaCodebooks::release(Napi::BasicEnv env) {
  if (!prepared_) return;
  Napi::MemoryManagement::AdjustExternalMemory(env, -static_cast<int64_t>(prepared_->codebooks->size_bytes()));
  prepared_.reset();
}

Prepared CudaCodebooks::prepared(Napi::Env env) const {
  if (!prepared_) throw Napi::Error::New(env, "these codebooks have been disposed");
  return prepared_;
}

Napi::Value CudaCodebooks::encode(const Napi::CallbackInfo& info) {
  return later(prepared(info.Env()), info, read_encode);
}

Napi::Value CudaCodebooks::encode_sync(const Napi::CallbackInfo& info) {
  return now(prepared(info.Env()), info, read_encode);
}

Napi::Value CudaCodebooks::decode(const Napi::CallbackInfo& info) {
  return later(prepared(info.Env()), info, read_decode);
}

Napi::Value CudaCodebooks::decode_sync(const Napi::CallbackInfo& info) {
  return now(prepared(info.Env()), info, read_decode);
}

Napi::Value CudaCodebooks::distances(const Napi::CallbackInfo& info) {
  return later(prepared(info.Env()), info, read_distances);
}

Napi::Value CudaCodebooks::distances_sync(const Napi::CallbackInfo& info) {
  return now(prepared(info.Env()), info, read_distances);
}

Napi::Value CudaCodebooks::assign(const Napi::CallbackInfo& info) {
  return later(prepared(info.Env()), info, read_assign);
}

#ifdef RVQ_TESTING
Napi::Value CudaCodebooks::test_screen(const Napi::CallbackInfo& info) {
  return Napi::String::New(info.Env(), prepared(info.Env())->codebooks->screen());
}

Napi::Value CudaCodebooks::test_replace(const Napi::CallbackInfo& info) {
  Arguments arguments(info[0]);
  Prepared own = prepared(info.Env());
  cpu::CodebookSpec read = read_spec(arguments);
  check_numbers(read, arguments);
  if (read.dim != own->shape.dim || shape_of(read).codebook_sizes != own->shape.codebook_sizes) {
    throw arguments.error("codebooks", "as many codewords of as many elements");
  }
  run_coded(info.Env(), [&] {
    cuda::on_device(own->options.device, [&] {
      cuda::Stream stream;
      own->codebooks->replace(stages_of(read), stream.get());
      stream.wait("packing");
    });
  });
  return info.Env().Undefined();
}
#endif

Napi::Value CudaCodebooks::dispose(const Napi::CallbackInfo& info) {
  release(info.Env());
  return info.Env().Undefined();
}

}  // namespace rvq
