// What the process knows about a device: that it works, or that it is lost.

#include "device_state.h"

#include <cuda_runtime.h>

#include <atomic>
#include <map>
#include <mutex>
#include <set>

#include "launch.cuh"
#include "stream.h"

namespace rvq::cuda {

namespace {

struct State {
  std::mutex mutex;
  std::set<int> open;
  std::map<int, std::string> lost;
};

// Never destroyed: threads of the pool may ask at the end of the process.
State& state() {
  static State* state = new State;
  return *state;
}

std::atomic<size_t> piece_rows{0};
std::atomic<size_t> memory_bytes{0};
std::atomic<SearchForm> search_form{SearchForm::kChosen};

constexpr unsigned kAnswer = 42;

// launch: threads 1
__global__ void answer(unsigned* out) { *out = kAnswer; }

}  // namespace

void open_device(int device) {
  {
    std::lock_guard<std::mutex> lock(state().mutex);
    if (state().open.count(device) > 0 && state().lost.count(device) == 0) return;
  }
  on_device(device, [] {
    DeviceArray<unsigned> memory(1);
    unsigned read = 0;
    Stream stream;
    launch("a first kernel", {dim3(1), dim3(1), 0, stream.get()}, answer, memory.data());
    check(cudaMemcpyAsync(&read, memory.data(), sizeof read, cudaMemcpyDeviceToHost, stream.get()), "a first kernel");
    stream.wait("a first kernel");
    if (read != kAnswer) throw Failure(Failure::Kind::kOther, "a first kernel gave a wrong answer");
  });
  std::lock_guard<std::mutex> lock(state().mutex);
  state().open.insert(device);
}

void check_not_lost(int device) {
  std::lock_guard<std::mutex> lock(state().mutex);
  auto lost = state().lost.find(device);
  if (lost != state().lost.end()) throw Failure(Failure::Kind::kDeviceLost, lost->second);
}

bool is_lost(int device) {
  std::lock_guard<std::mutex> lock(state().mutex);
  return state().lost.count(device) > 0;
}

void mark_lost(int device, const std::string& why) {
  std::lock_guard<std::mutex> lock(state().mutex);
  state().lost.emplace(device, why);
}

void set_test_limits(const TestLimits& limits) {
  piece_rows = limits.piece_rows;
  memory_bytes = limits.memory_bytes;
  search_form = limits.search_form;
}

TestLimits test_limits() { return {piece_rows, memory_bytes, search_form}; }

}  // namespace rvq::cuda
