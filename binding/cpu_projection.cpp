// The JavaScript class CpuProjection: a prepared linear map of vectors.

#include "cpu_projection.h"

#include <string>
#include <utility>

#include "arguments.h"
#include "cpu/project.h"
#include "cpu_options.h"
#include "job.h"
#include "requests.h"

namespace rvq {

struct PreparedProjection {
  CpuOptions options;
  cpu::PackedProjection packed;
};

namespace {

using Prepared = std::shared_ptr<const PreparedProjection>;

class ProjectCall final : public Call {
 public:
  ProjectCall(Prepared prepared, const cpu::ProjectRequest& request)
      : prepared_(std::move(prepared)), operation_(*prepared_->options.kernels, prepared_->packed, request) {}

  size_t blocks() const override { return operation_.blocks(); }
  double work() const override { return operation_.work(); }
  void run(BlockFeed& feed) override { operation_.run(feed); }
  Napi::Value result(Napi::Env env) override {
    auto bad = operation_.bad_input();
    return bad ? bad_input_object(env, false, bad->row, bad->column) : env.Null();
  }

 private:
  Prepared prepared_;
  cpu::Project operation_;
};

std::unique_ptr<Call> read_project(const Prepared& prepared, Napi::Env env, Arguments& arguments) {
  const cpu::PackedProjection& packed = prepared->packed;
  return std::make_unique<ProjectCall>(prepared, read_project_request(packed.in_dim, packed.out_dim, env, arguments));
}

}  // namespace

Napi::Function CpuProjection::define(Napi::Env env) {
  return DefineClass(env, "CpuProjection",
                     {
                         InstanceMethod("project", &CpuProjection::project),
                         InstanceMethod("projectSync", &CpuProjection::project_sync),
                         InstanceMethod("dispose", &CpuProjection::dispose),
                     });
}

CpuProjection::CpuProjection(const Napi::CallbackInfo& info) : Napi::ObjectWrap<CpuProjection>(info) {
  Arguments arguments(info[0]);
  CpuOptions options = read_cpu_options(arguments);
  cpu::ProjectionSpec spec = read_projection_spec(info.Env(), arguments);
  auto prepared = std::make_shared<PreparedProjection>(PreparedProjection{options, cpu::PackedProjection(spec)});
  prepared_ = std::move(prepared);
  Napi::MemoryManagement::AdjustExternalMemory(info.Env(), static_cast<int64_t>(prepared_->packed.size_bytes()));
}

void CpuProjection::Finalize(Napi::BasicEnv env) { release(env); }

void CpuProjection::release(Napi::BasicEnv env) {
  if (!prepared_) return;
  Napi::MemoryManagement::AdjustExternalMemory(env, -static_cast<int64_t>(prepared_->packed.size_bytes()));
  prepared_.reset();
}

Prepared CpuProjection::prepared(Napi::Env env) const {
  if (!prepared_) throw Napi::Error::New(env, "this projection has been disposed");
  return prepared_;
}

Napi::Value CpuProjection::project(const Napi::CallbackInfo& info) {
  Prepared prepared = this->prepared(info.Env());
  Arguments arguments(info[0]);
  std::unique_ptr<Call> call = read_project(prepared, info.Env(), arguments);
  Napi::Value chunk_of = arguments.object_or_undefined("chunkOf");
  return Jobs::run_later(info.Env(), std::move(call), prepared->options.threads, arguments.arrays(), chunk_of);
}

Napi::Value CpuProjection::project_sync(const Napi::CallbackInfo& info) {
  Prepared prepared = this->prepared(info.Env());
  Arguments arguments(info[0]);
  std::unique_ptr<Call> call = read_project(prepared, info.Env(), arguments);
  arguments.check_left_alone();
  return run_now(info.Env(), *call, prepared->options.threads);
}

Napi::Value CpuProjection::dispose(const Napi::CallbackInfo& info) {
  release(info.Env());
  return info.Env().Undefined();
}

}  // namespace rvq
