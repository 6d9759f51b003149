// Runs the threads of a kernel, a block at a time, as coroutines: a thread goes on until it has to wait for others.

// Its longjmp does not believe in stacks that the program has made.
#undef _FORTIFY_SOURCE

#include <cuda_runtime.h>
#include <setjmp.h>
#include <ucontext.h>

#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <memory>
#include <vector>

#include "faults.h"
#include "products.h"
#include "warpgroup.h"

// All of this is behind the runtime's lock: one block of the whole process runs at a time.
#undef threadIdx
dim3 threadIdx, blockIdx, blockDim, gridDim;

namespace {

namespace races = emulation::races;

constexpr size_t kStackBytes = 256 << 10;

// Of the threads of a warp with the same mask: how often they have met, who is there for the next time, and what they
// have said, now and the last time.
struct Meeting {
  char tokens[2];  // of those who meet, in turn
  size_t rounds = 0;
  int there = 0;
  emulation::Words said[2][32] = {};
};

// Those of a warp, by their masks; mostly all of it meets.
struct WarpMeetings {
  Meeting whole;
  std::map<unsigned, Meeting> parts;

  Meeting& of(unsigned mask) { return mask == ~0u ? whole : parts[mask]; }
};

struct Copy {
  void* to;
  const void* from;
};

// A thread of the block. Contexts start it; jumps, which ask nothing of the kernel, go on with it.
struct Thread {
  ucontext_t start;
  jmp_buf place;
  dim3 index;
  bool started = false;
  bool ended = false;
  std::vector<Copy> asked;
  std::vector<std::vector<Copy>> groups;
  // Products of a warpgroup, likewise.
  std::vector<std::function<void()>> begun;
  std::vector<std::vector<std::function<void()>>> products;
};

struct Block {
  const std::function<void()>* thread = nullptr;
  jmp_buf scheduler;
  ucontext_t scheduler_context;
  void* scheduler_fiber;
  std::vector<Thread> threads;
  std::vector<WarpMeetings> meetings;  // [warps]
  size_t current = 0;
  size_t progress = 0;
  // Of barriers that some threads pass together: 0 is that of all.
  struct Barrier {
    char tokens[2];  // likewise
    size_t met = 0;
    size_t passed = 0;
  };
  Barrier barriers[16];
};

Block* running = nullptr;
std::vector<std::unique_ptr<char[]>> stacks;
std::vector<char> shared_bytes;
// Of the threads of all blocks, one after the other, while races are looked for; and tokens of their begins and ends.
std::vector<void*> fibers;
char begin, end;
std::atomic<size_t> rows_compared, rows_searched;

[[noreturn]] void fail(const char* what) {
  std::fprintf(stderr, "CUDA emulation: %s\n", what);
  std::abort();
}

// While races are looked for threads change by their contexts alone: ThreadSanitizer has its own idea of jumps.
void leave() {
  Thread& thread = running->threads[running->current];
  races::switch_to(running->scheduler_fiber);
  swapcontext(&thread.start, &running->scheduler_context);
}

void enter() {
  races::acquire(&begin);
  (*running->thread)();
  races::release(&end);
  running->threads[running->current].ended = true;
  running->progress++;
  if (races::kLooking) leave();
  _longjmp(running->scheduler, 1);
}

// Back to the scheduler, until it is this thread's turn again.
void wait() {
  if (races::kLooking) return leave();
  if (_setjmp(running->threads[running->current].place) == 0) _longjmp(running->scheduler, 1);
}

// Until the thread waits, or has ended.
void go_on(size_t index) {
  running->current = index;
  Thread& thread = running->threads[index];
  threadIdx = thread.index;
  if (races::kLooking) {
    races::switch_to(fibers[index]);
    swapcontext(&running->scheduler_context, &thread.start);
    return;
  }
  if (_setjmp(running->scheduler) != 0) return;
  if (thread.started) _longjmp(thread.place, 1);
  thread.started = true;
  setcontext(&thread.start);
}

void prepare(Thread& thread, unsigned i, char* stack) {
  thread.index = dim3(i % blockDim.x, i / blockDim.x % blockDim.y, i / (blockDim.x * blockDim.y));
  getcontext(&thread.start);
  thread.start.uc_stack = {stack, 0, kStackBytes};
  thread.start.uc_link = nullptr;
  makecontext(&thread.start, enter, 0);
}

void run_block(const std::function<void()>& thread, size_t shared) {
  size_t threads = size_t{blockDim.x} * blockDim.y * blockDim.z;
  if (threads > 1024) fail("more than 1024 threads a block");
  constexpr size_t kAlignment = 128;
  // What nobody has written is not a number.
  shared_bytes.assign(shared + kAlignment, static_cast<char>(0xff));
  Block block;
  block.thread = &thread;
  block.threads.resize(threads);
  block.meetings.resize((threads + 31) / 32);
  running = &block;
  while (stacks.size() < threads) stacks.push_back(std::make_unique<char[]>(kStackBytes));
  block.scheduler_fiber = races::current();
  while (fibers.size() < threads) fibers.push_back(races::create());
  races::release(&begin);
  for (size_t t = 0; t < threads; t++) prepare(block.threads[t], static_cast<unsigned>(t), stacks[t].get());
  for (size_t left = threads; left > 0;) {
    size_t before = block.progress;
    left = 0;
    for (size_t t = 0; t < threads; t++) {
      if (block.threads[t].ended) continue;
      go_on(t);
      if (!block.threads[t].ended) left++;
    }
    if (left > 0 && block.progress == before) fail("threads wait for each other, or for one that has ended");
  }
  races::acquire(&end);
  running = nullptr;
}

}  // namespace

cudaError_t emulation::enqueue_kernel(cudaStream_t stream, const void* kernel, const Grid& shape,
                                      std::function<void()> thread) {
  const dim3& grid = shape.grid;
  if (grid.x == 0 || grid.x > 0x7fffffffu || grid.y == 0 || grid.y > 65535 || grid.z == 0 || grid.z > 65535) {
    fail("a grid of a wrong size");
  }
  size_t threads = size_t{shape.block.x} * shape.block.y * shape.block.z;
  if (threads == 0 || threads > 1024) fail("a block of a wrong size");
  if (shape.shared_bytes > allowed_shared_bytes(kernel)) fail("more shared memory than the kernel may have");
  int device = 0;
  cudaGetDevice(&device);
  cudaError_t error = begin_call("cudaLaunchKernelExC", device);
  if (error != cudaSuccess) return error;
  enqueue(stream, [=] {
    gridDim = shape.grid;
    blockDim = shape.block;
    for (unsigned z = 0; z < gridDim.z; z++) {
      for (unsigned y = 0; y < gridDim.y; y++) {
        for (unsigned x = 0; x < gridDim.x; x++) {
          blockIdx = dim3(x, y, z);
          run_block(thread, shape.shared_bytes);
        }
      }
    }
  });
  return cudaSuccess;
}

unsigned char* emulation::dynamic_shared() {
  auto address = reinterpret_cast<uintptr_t>(shared_bytes.data());
  return reinterpret_cast<unsigned char*>((address + 127) / 128 * 128);
}

#ifdef RVQ_FIND_RACES
dim3 emulation::thread_index() { return threadIdx; }
#endif

unsigned emulation::lane() { return static_cast<unsigned>(running->current % 32); }

const emulation::Words* emulation::exchange(unsigned mask, const Words& own, void (*combine)(Words* all)) {
  Block& block = *running;
  unsigned lane = emulation::lane();
  if ((mask >> lane & 1) == 0) fail("a thread meets others under a mask without itself");
  Meeting& meeting = block.meetings[block.current / 32].of(mask);
  size_t before = meeting.rounds;
  Words* said = meeting.said[before % 2];
  said[lane] = own;
  block.progress++;
  if (++meeting.there == __builtin_popcount(mask)) {
    if (combine != nullptr) combine(said);
    meeting.there = 0;
    meeting.rounds++;
  }
  while (meeting.rounds == before) wait();
  return said;
}

void emulation::meet_warp(unsigned mask) {
  Meeting& meeting = running->meetings[running->current / 32].of(mask);
  const char& token = meeting.tokens[meeting.rounds % 2];
  races::release(&token);
  exchange(mask, {});
  races::acquire(&token);
}

void emulation::meet_block() { meet_at(0, static_cast<int>(running->threads.size())); }

void emulation::meet_at(int barrier, int threads) {
  Block::Barrier& at = running->barriers[barrier];
  size_t before = at.passed;
  const char& token = at.tokens[before % 2];
  races::release(&token);
  running->progress++;
  if (++at.met == static_cast<size_t>(threads)) {
    at.met = 0;
    at.passed++;
  }
  while (at.passed == before) wait();
  races::acquire(&token);
}

void emulation::wait_until(const std::function<bool()>& condition) {
  while (!condition()) wait();
}

void emulation::tell() { running->progress++; }

emulation::OpenRows emulation::open_rows() { return {rows_compared, rows_searched}; }

void emulation::add_open_rows(int compared, int searched) {
  rows_compared += static_cast<size_t>(compared);
  rows_searched += static_cast<size_t>(searched);
}

void emulation::copy_async(void* shared, const void* global) {
  std::memset(shared, 0xff, 16);
  races::written(shared, 16);
  races::read(global, 16);
  running->threads[running->current].asked.push_back({shared, global});
}

void emulation::end_copy_group() {
  Thread& thread = running->threads[running->current];
  thread.groups.push_back(std::move(thread.asked));
  thread.asked.clear();
}

void emulation::wait_for_copies(size_t pending_groups) {
  auto& groups = running->threads[running->current].groups;
  for (; groups.size() > pending_groups; groups.erase(groups.begin())) {
    for (const Copy& copy : groups.front()) {
      std::memcpy(copy.to, copy.from, 16);
      races::written(copy.to, 16);
    }
  }
}

void emulation::warpgroup::begin_product(std::function<void()> product) {
  running->threads[running->current].begun.push_back(std::move(product));
}

void emulation::warpgroup::end_product_group() {
  Thread& thread = running->threads[running->current];
  thread.products.push_back(std::move(thread.begun));
  thread.begun.clear();
}

void emulation::warpgroup::finish_products(size_t pending_groups) {
  auto& products = running->threads[running->current].products;
  for (; products.size() > pending_groups; products.erase(products.begin())) {
    for (const auto& product : products.front()) product();
  }
}
