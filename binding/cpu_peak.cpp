// The JavaScript function fmaPeak.

#include "cpu_peak.h"

#include <algorithm>
#include <chrono>
#include <memory>

#include "arguments.h"
#include "cpu/kernels.h"
#include "cpu_options.h"
#include "thread_pool.h"

namespace rvq {

Napi::Value fma_peak(const Napi::CallbackInfo& info) {
  using Clock = std::chrono::steady_clock;
  constexpr size_t kRounds = 20000;  // About 30 µs.
  constexpr size_t kBlocksPerThread = 100;
  constexpr size_t kRuns = 3;

  Arguments arguments(info[0]);
  CpuOptions options = read_cpu_options(arguments);
  const cpu::Kernels& kernels = *options.kernels;
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

}  // namespace rvq
