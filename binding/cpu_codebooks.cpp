// The JavaScript class CpuCodebooks: reads requests, builds the core's operations and runs them now or later.

#include "cpu_codebooks.h"

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "arguments.h"
#include "core_call.h"
#include "cpu/assign.h"
#include "cpu/beam.h"
#include "cpu/decode.h"
#include "cpu/distances.h"
#include "cpu/instruction_set.h"
#include "cpu/moved_codewords.h"
#include "cpu/search.h"
#include "job.h"
#include "prepared_codebooks.h"
#include "requests.h"
#include "thread_pool.h"

#ifdef RVQ_TESTING
#include "cpu/screen.h"
#endif

namespace rvq {

namespace {

using Prepared = std::shared_ptr<const PreparedCodebooks>;

// A greedy or a beam search.
template <typename Operation>
class EncodeCall final : public Call {
 public:
  template <typename... Beam>
  EncodeCall(Prepared prepared, const cpu::EncodeRequest& request, Beam... beam)
      : prepared_(std::move(prepared)),
        operation_(prepared_->kernels(), prepared_->codebooks, request, beam..., prepared_->options.threads) {}

  size_t blocks() const override { return operation_.blocks(); }
  double work() const override { return operation_.work(); }
  void run(BlockFeed& feed) override { operation_.run(feed); }
  Napi::Value result(Napi::Env env) override {
    auto bad = operation_.bad_input();
    if (!bad) return env.Null();
    return bad_input_object(env, bad->kind == cpu::BadInput::Kind::kZero, bad->row, bad->column);
  }

 private:
  Prepared prepared_;
  Operation operation_;
};

#ifdef RVQ_TESTING
// screen: "float32", "int16" or "int8" for every stage, whatever its shape.
cpu::ScreenChoice read_screen(const Arguments& arguments) {
  if (!arguments.has("screen")) return cpu::ScreenChoice::kByShape;
  std::string screen = arguments.string("screen");
  if (screen == "float32") return cpu::ScreenChoice::kFloat32;
  if (screen == "int16") return cpu::ScreenChoice::kInt16;
  if (screen == "uniform") return cpu::ScreenChoice::kUniform;
  if (screen == "int8") return cpu::ScreenChoice::kInt8;
  if (screen == "prefix") return cpu::ScreenChoice::kPrefix;
  throw arguments.error("screen", "\"float32\", \"int16\", \"int8\", \"prefix\" or nothing");
}
#endif

std::unique_ptr<Call> read_encode(const Prepared& prepared, Napi::Env env, Arguments& arguments) {
  cpu::EncodeRequest request = read_encode_request(prepared->shape, env, arguments);
  size_t beam = arguments.has("beam") ? arguments.size_between("beam", 1, cpu::kMostHypotheses) : 1;
  if (beam == 1) return std::make_unique<EncodeCall<cpu::Encode>>(prepared, request);
  if (prepared->codebooks.metric != cpu::Metric::kL2) throw arguments.error("beam", "1 with the cosine metric");
  return std::make_unique<EncodeCall<cpu::BeamEncode>>(prepared, request, beam);
}

std::unique_ptr<Call> read_decode(const Prepared& prepared, Napi::Env env, Arguments& arguments) {
  cpu::DecodeRequest request = read_decode_request(prepared->shape, env, arguments);
  return std::make_unique<CoreCall<cpu::Decode>>(prepared, prepared->kernels(), prepared->codebooks, request);
}

std::unique_ptr<Call> read_distances(const Prepared& prepared, Napi::Env env, Arguments& arguments) {
  cpu::DistancesRequest request = read_distances_request(prepared->shape, env, arguments);
  return std::make_unique<CoreCall<cpu::Distances>>(prepared, prepared->kernels(), prepared->codebooks, request);
}

std::unique_ptr<Call> read_assign(const Prepared& prepared, Napi::Env env, Arguments& arguments) {
  cpu::AssignRequest request = read_assign_request(prepared->shape, env, arguments);
  const cpu::MovedCodewords* moved = prepared->moved.get();
  return std::make_unique<CoreCall<cpu::Assign>>(prepared, prepared->kernels(), prepared->codebooks, moved, request);
}

using ReadRequest = std::unique_ptr<Call> (*)(const Prepared&, Napi::Env, Arguments&);

Napi::Value later(const Prepared& prepared, const Napi::CallbackInfo& info, ReadRequest read) {
  Arguments arguments(info[0]);
  std::unique_ptr<Call> call = read(prepared, info.Env(), arguments);
  Napi::Value chunk_of = arguments.object_or_undefined("chunkOf");
  return Jobs::run_later(info.Env(), std::move(call), prepared->options.threads, arguments.arrays(), chunk_of);
}

Napi::Value now(const Prepared& prepared, const Napi::CallbackInfo& info, ReadRequest read) {
  Arguments arguments(info[0]);
  std::unique_ptr<Call> call = read(prepared, info.Env(), arguments);
  arguments.check_left_alone();
  return run_now(info.Env(), *call, prepared->options.threads);
}

}  // namespace

Napi::Function CpuCodebooks::define(Napi::Env env) {
  return DefineClass(env, "CpuCodebooks",
                     {
                         InstanceMethod("encode", &CpuCodebooks::encode),
                         InstanceMethod("encodeSync", &CpuCodebooks::encode_sync),
                         InstanceMethod("decode", &CpuCodebooks::decode),
                         InstanceMethod("decodeSync", &CpuCodebooks::decode_sync),
                         InstanceMethod("distances", &CpuCodebooks::distances),
                         InstanceMethod("distancesSync", &CpuCodebooks::distances_sync),
                         InstanceMethod("assign", &CpuCodebooks::assign),
                         InstanceMethod("dispose", &CpuCodebooks::dispose),
#ifdef RVQ_TESTING
                         InstanceMethod("screenVerdicts", &CpuCodebooks::screen_verdicts),
                         InstanceMethod("screenOnly", &CpuCodebooks::screen_only),
#endif
                     });
}

CpuCodebooks::CpuCodebooks(const Napi::CallbackInfo& info) : Napi::ObjectWrap<CpuCodebooks>(info) {
  Arguments arguments(info[0]);
  CpuOptions options = read_cpu_options(arguments);
  cpu::CodebookSpec spec = read_spec(arguments);
  size_t first_elements = spec.dim * spec.stages[0].num_codewords;
  const float* previous = arguments.floats_or_null("previous", first_elements);
#ifdef RVQ_TESTING
  spec.screen = read_screen(arguments);
#endif
  check_numbers(spec, arguments);
  arguments.require_finite("previous", previous, first_elements);
  auto prepared =
      std::make_shared<PreparedCodebooks>(PreparedCodebooks{options, shape_of(spec), cpu::prepare(spec), {}});
  auto prepare_stages = [&](BlockFeed& feed) {
    while (auto stage = feed.next()) cpu::prepare_stage(prepared->kernels(), spec, *stage, prepared->codebooks);
  };
  ThreadPool::shared().run(std::make_shared<PoolJob>(spec.stages.size(), options.threads, prepare_stages));
  if (previous != nullptr) prepared->moved = cpu::find_moved(*options.kernels, spec, prepared->codebooks, previous);
  prepared_ = std::move(prepared);
  Napi::MemoryManagement::AdjustExternalMemory(info.Env(), static_cast<int64_t>(prepared_->size_bytes()));
}

void CpuCodebooks::Finalize(Napi::BasicEnv env) { release(env); }

void CpuCodebooks::release(Napi::BasicEnv env) {
  if (!prepared_) return;
  Napi::MemoryManagement::AdjustExternalMemory(env, -static_cast<int64_t>(prepared_->size_bytes()));
  prepared_.reset();
}

Prepared CpuCodebooks::prepared(Napi::Env env) const {
  if (!prepared_) throw Napi::Error::New(env, "these codebooks have been disposed");
  return prepared_;
}

Napi::Value CpuCodebooks::encode(const Napi::CallbackInfo& info) {
  return later(prepared(info.Env()), info, read_encode);
}

Napi::Value CpuCodebooks::encode_sync(const Napi::CallbackInfo& info) {
  return now(prepared(info.Env()), info, read_encode);
}

Napi::Value CpuCodebooks::decode(const Napi::CallbackInfo& info) {
  return later(prepared(info.Env()), info, read_decode);
}

Napi::Value CpuCodebooks::decode_sync(const Napi::CallbackInfo& info) {
  return now(prepared(info.Env()), info, read_decode);
}

Napi::Value CpuCodebooks::distances(const Napi::CallbackInfo& info) {
  return later(prepared(info.Env()), info, read_distances);
}

Napi::Value CpuCodebooks::distances_sync(const Napi::CallbackInfo& info) {
  return now(prepared(info.Env()), info, read_distances);
}

Napi::Value CpuCodebooks::assign(const Napi::CallbackInfo& info) {
  return later(prepared(info.Env()), info, read_assign);
}

Napi::Value CpuCodebooks::dispose(const Napi::CallbackInfo& info) {
  release(info.Env());
  return info.Env().Undefined();
}

#ifdef RVQ_TESTING
// screenVerdicts({ vectors, count, stage, verdicts: Int32Array }): the code that the screen alone is certain of, −1
// where it is not, with the vectors taken as they are (also with the cosine metric).
Napi::Value CpuCodebooks::screen_verdicts(const Napi::CallbackInfo& info) {
  Prepared prepared = this->prepared(info.Env());
  const cpu::Codebooks& codebooks = prepared->codebooks;
  Arguments arguments(info[0]);
  size_t count = arguments.size("count");
  const float* vectors = arguments.floats("vectors", product(info.Env(), count, codebooks.dim));
  int32_t* verdicts = arguments.integers("verdicts", count);
  const cpu::Stage& stage = codebooks.stages[arguments.size_between("stage", 0, codebooks.stages.size() - 1)];
  arguments.check_left_alone();

  size_t tile = prepared->kernels().tile_rows;
  cpu::Screen screen(prepared->kernels(), tile, codebooks.dim, codebooks.max_groups());
  std::vector<uint32_t> candidates;
  std::vector<float> padded(tile * codebooks.padded_dim, 0.0f);
  for (size_t first = 0; first < count; first += tile) {
    size_t rows = std::min(tile, count - first);
    for (size_t row = 0; row < rows; row++) {
      std::copy_n(vectors + (first + row) * codebooks.dim, codebooks.dim, padded.data() + row * codebooks.padded_dim);
    }
    if (stage.packed) screen.run(*stage.packed, stage.prefix.get(), padded.data(), rows, codebooks.padded_dim);
    for (size_t row = 0; row < rows; row++) {
      bool certain =
          stage.packed && screen.verdict(row, candidates) == cpu::Verdict::kCandidates && candidates.size() == 1;
      verdicts[first + row] = certain ? static_cast<int32_t>(candidates[0]) : -1;
    }
  }
  return info.Env().Undefined();
}
#endif

}  // namespace rvq
