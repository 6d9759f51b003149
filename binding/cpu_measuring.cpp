// What benchmarks ask of the addon: the processor's peak, and the screen without its certificate.

#include "cpu_measuring.h"

#include <algorithm>
#include <chrono>
#include <memory>

#include "arguments.h"
#include "cpu/bare_screen.h"
#include "cpu/kernels.h"
#include "cpu_codebooks.h"
#include "cpu_options.h"
#include "prepared_codebooks.h"
#include "thread_pool.h"

namespace rvq {

Napi::Value fma_peak(const Napi::CallbackInfo& info) {
  using Clock = std::chrono::steady_clock;
  constexpr size_t kRounds = 20000;  // About 30 µs.
  constexpr size_t kBlocksPerThread = 100;
  constexpr size_t kRuns = 3;

  Arguments arguments(info[0]);
  CpuOptions options = read_cpu_options(arguments);
  const cpu::MeasuringKernels& kernels = *options.kernels->measuring;
  size_t blocks = kBlocksPerThread * options.threads;
  auto multiply_adds = [&](BlockFeed& feed) {
    volatile float sink = 0;
    while (feed.next()) sink = kernels.multiply_adds(kRounds);
    (void)sink;
  };
  double shortest = 1e9;
  for (size_t run = 0; run < kRuns; run++) {
    auto start = Clock::now();
    ThreadPool::shared().run(std::make_shared<PoolJob>(blocks, options.threads, multiply_adds));
    shortest = std::min(shortest, std::chrono::duration<double>(Clock::now() - start).count());
  }
  double flop = 2.0 * static_cast<double>(blocks * kRounds * kernels.multiply_adds_per_round);
  return Napi::Number::New(info.Env(), flop / shortest / 1e9);
}

// screenOnly({ vectors, count, stage, codes: Int32Array }), now and on the threads of these codebooks.
Napi::Value CpuCodebooks::screen_only(const Napi::CallbackInfo& info) {
  const auto& prepared = this->prepared(info.Env());
  const cpu::Codebooks& codebooks = prepared->codebooks;
  Arguments arguments(info[0]);
  size_t count = arguments.size("count");
  const float* vectors = arguments.floats("vectors", product(info.Env(), count, codebooks.dim));
  int32_t* codes = arguments.integers("codes", count);
  const cpu::Stage& stage = codebooks.stages[arguments.size_between("stage", 0, codebooks.stages.size() - 1)];
  if (!stage.packed) throw Napi::TypeError::New(info.Env(), "stage: expected two different codewords");

  cpu::BareScreen screen(prepared->kernels(), codebooks, stage, vectors, count, codes);
  auto body = [&](BlockFeed& feed) { screen.run(feed); };
  ThreadPool::shared().run(std::make_shared<PoolJob>(screen.blocks(), prepared->options.threads, body));
  return info.Env().Undefined();
}

}  // namespace rvq
