// Runs the threads of a kernel, a block at a time, as coroutines: a thread goes on until it has to wait for others.

#include <cuda_runtime.h>
#include <ucontext.h>

#include <cstdio>
#include <cstdlib>
#include <map>
#include <memory>
#include <vector>

thread_local dim3 threadIdx, blockIdx, blockDim, gridDim;

namespace {

constexpr size_t kStackBytes = 256 << 10;

// What threads of a warp with the same mask have said so far; the last two rounds of it.
struct Meeting {
  size_t rounds[32] = {};
  uint64_t values[2][32] = {};
};

struct Block {
  const std::function<void()>* thread = nullptr;
  ucontext_t scheduler;
  std::vector<ucontext_t> contexts;
  std::vector<char> ended;
  std::vector<std::map<unsigned, Meeting>> meetings;  // [warps]
  size_t current = 0;
  size_t progress = 0;
};

thread_local Block* running = nullptr;
thread_local std::vector<std::unique_ptr<char[]>> stacks;

[[noreturn]] void fail(const char* what) {
  std::fprintf(stderr, "CUDA emulation: %s\n", what);
  std::abort();
}

void enter() {
  (*running->thread)();
  running->ended[running->current] = 1;
  running->progress++;
  swapcontext(&running->contexts[running->current], &running->scheduler);
}

void prepare(ucontext_t& context, char* stack) {
  getcontext(&context);
  context.uc_stack = {stack, 0, kStackBytes};
  context.uc_link = nullptr;
  makecontext(&context, enter, 0);
}

void choose(size_t thread) {
  running->current = thread;
  unsigned i = static_cast<unsigned>(thread);
  threadIdx = dim3(i % blockDim.x, i / blockDim.x % blockDim.y, i / (blockDim.x * blockDim.y));
}

void run_block(const std::function<void()>& thread) {
  size_t threads = size_t{blockDim.x} * blockDim.y * blockDim.z;
  if (threads > 1024) fail("more than 1024 threads a block");
  Block block;
  block.thread = &thread;
  block.contexts.resize(threads);
  block.ended.assign(threads, 0);
  block.meetings.resize((threads + 31) / 32);
  running = &block;
  while (stacks.size() < threads) stacks.push_back(std::make_unique<char[]>(kStackBytes));
  for (size_t t = 0; t < threads; t++) {
    prepare(block.contexts[t], stacks[t].get());
  }
  for (size_t left = threads; left > 0;) {
    size_t before = block.progress;
    left = 0;
    for (size_t t = 0; t < threads; t++) {
      if (block.ended[t]) continue;
      choose(t);
      swapcontext(&block.scheduler, &block.contexts[t]);
      if (!block.ended[t]) left++;
    }
    if (left > 0 && block.progress == before) fail("threads wait for each other, or for one that has ended");
  }
  running = nullptr;
}

}  // namespace

void emulation::enqueue_kernel(cudaStream_t stream, dim3 grid, dim3 block, std::function<void()> thread) {
  if (grid.x == 0 || grid.x > 0x7fffffffu) fail("a grid of a wrong size");
  enqueue(stream, [=] {
    gridDim = grid;
    blockDim = block;
    for (unsigned z = 0; z < grid.z; z++) {
      for (unsigned y = 0; y < grid.y; y++) {
        for (unsigned x = 0; x < grid.x; x++) {
          blockIdx = dim3(x, y, z);
          run_block(thread);
        }
      }
    }
  });
}

unsigned emulation::lane() { return static_cast<unsigned>(running->current % 32); }

emulation::Exchange emulation::exchange(unsigned mask, uint64_t value) {
  Block& block = *running;
  size_t own = block.current;
  size_t warp = own / 32;
  unsigned lane = static_cast<unsigned>(own % 32);
  if ((mask >> lane & 1) == 0) fail("a thread meets others under a mask without itself");
  Meeting& meeting = block.meetings[warp][mask];
  size_t round = ++meeting.rounds[lane];
  meeting.values[round % 2][lane] = value;
  block.progress++;
  auto all_there = [&] {
    for (unsigned i = 0; i < 32; i++) {
      if ((mask >> i & 1) != 0 && meeting.rounds[i] < round) return false;
    }
    return true;
  };
  while (!all_there()) {
    swapcontext(&block.contexts[own], &block.scheduler);
  }
  Exchange result;
  std::memcpy(result.values, meeting.values[round % 2], sizeof result.values);
  return result;
}
