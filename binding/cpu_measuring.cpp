// What benchmarks of the project ask of the addon: the screen without its certificate; in builds with RVQ_TESTING only.

#include <memory>

#include "arguments.h"
#include "cpu/bare_screen.h"
#include "cpu_codebooks.h"
#include "prepared_codebooks.h"
#include "thread_pool.h"

namespace rvq {

// screenOnly({ vectors, count, stage, codes: Int32Array }), now and on the threads of these codebooks.
Napi::Value CpuCodebooks::screen_only(const Napi::CallbackInfo& info) {
  std::shared_ptr<const PreparedCodebooks> prepared = this->prepared(info.Env());
  const cpu::Codebooks& codebooks = prepared->codebooks;
  Arguments arguments(info[0]);
  size_t count = arguments.size("count");
  const float* vectors = arguments.floats("vectors", product(info.Env(), count, codebooks.dim));
  int32_t* codes = arguments.integers("codes", count);
  const cpu::Stage& stage = codebooks.stages[arguments.size_between("stage", 0, codebooks.stages.size() - 1)];
  arguments.check_left_alone();
  if (!stage.packed) throw Napi::TypeError::New(info.Env(), "stage: expected two different codewords");

  cpu::BareScreen screen(prepared->kernels(), codebooks, stage, vectors, count, codes);
  auto body = [&](BlockFeed& feed) { screen.run(feed); };
  ThreadPool::shared().run(std::make_shared<PoolJob>(screen.blocks(), prepared->options.threads, body));
  return info.Env().Undefined();
}

}  // namespace rvq
