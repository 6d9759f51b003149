// The emulated runtime: memory, streams and events. All its state is behind one lock.

#include <cuda_runtime.h>

#include <chrono>
#include <cstdlib>
#include <deque>
#include <map>
#include <mutex>
#include <random>
#include <utility>
#include <vector>

#include "faults.h"

namespace {

using Clock = std::chrono::steady_clock;

constexpr int kMultiprocessors = 4;
constexpr int kMultiprocessorBytes = 100 << 10;
// Of shared memory, of a block on Hopper.
constexpr int kMostSharedBytes = 227 << 10;

}  // namespace

struct CUstream_st {
  std::deque<std::function<void()>> queue;
};

struct CUevent_st {
  size_t recorded = 0;
  size_t reached = 0;
  Clock::time_point when;
};

static thread_local int current_device = 0;

namespace {

struct Runtime {
  std::recursive_mutex mutex;
  std::vector<CUstream_st*> streams;
  std::map<char*, size_t> device;
  std::map<char*, size_t> pinned;
  size_t device_bytes = 0;
  // Of a kernel on a device, where it has been asked for.
  std::map<std::pair<int, const void*>, size_t> shared_bytes;
  std::mt19937 random{1};
};

Runtime& runtime() {
  static Runtime* runtime = new Runtime;
  return *runtime;
}

using Lock = std::lock_guard<std::recursive_mutex>;


[[noreturn]] void fail(const char* what) {
  std::fprintf(stderr, "CUDA emulation: %s\n", what);
  std::abort();
}

size_t setting(const char* name, size_t otherwise) {
  const char* text = std::getenv(name);
  return text == nullptr ? otherwise : std::strtoull(text, nullptr, 10);
}

// The default stream would wait for those of other programs in the process.
CUstream_st& stream_of(cudaStream_t stream) {
  if (stream == nullptr) fail("work on the default stream");
  return *stream;
}

// Does the first thing of some stream that has any.
bool step() {
  std::vector<CUstream_st*> ready;
  for (CUstream_st* stream : runtime().streams) {
    if (!stream->queue.empty()) ready.push_back(stream);
  }
  if (ready.empty()) return false;
  CUstream_st* chosen = ready[runtime().random() % ready.size()];
  std::function<void()> work = std::move(chosen->queue.front());
  chosen->queue.pop_front();
  work();
  return true;
}

bool inside(const std::map<char*, size_t>& blocks, const void* address, size_t bytes) {
  char* at = const_cast<char*>(static_cast<const char*>(address));
  auto after = blocks.upper_bound(at);
  if (after == blocks.begin()) return false;
  auto block = std::prev(after);
  return at + bytes <= block->first + block->second;
}

// Every call that needs the current device's context begins so.
cudaError_t begin(const char* call) { return emulation::begin_call(call, current_device); }

cudaError_t allocate(std::map<char*, size_t>& blocks, void** data, size_t bytes) {
  *data = std::aligned_alloc(256, (bytes + 255) / 256 * 256);
  if (*data == nullptr) return cudaErrorMemoryAllocation;
  // What nobody has written is not a number.
  std::memset(*data, 0xff, bytes);
  blocks.emplace(static_cast<char*>(*data), bytes);
  return cudaSuccess;
}

}  // namespace

void emulation::enqueue(cudaStream_t stream, std::function<void()> work) {
  Lock lock(runtime().mutex);
  stream_of(stream).queue.push_back(std::move(work));
}

emulation::MemoryUse emulation::memory_use() {
  Lock lock(runtime().mutex);
  MemoryUse use{runtime().device_bytes, 0};
  for (const auto& block : runtime().pinned) use.pinned_bytes += block.second;
  return use;
}

int emulation::current_device() { return ::current_device; }

cudaError_t emulation::allow_shared_bytes(const void* kernel, int bytes) {
  cudaError_t error = begin("cudaFuncSetAttribute");
  if (error != cudaSuccess) return error;
  if (bytes < 0 || bytes > kMostSharedBytes) return cudaErrorInvalidValue;
  Lock lock(runtime().mutex);
  runtime().shared_bytes[{current_device(), kernel}] = static_cast<size_t>(bytes);
  return cudaSuccess;
}

size_t emulation::allowed_shared_bytes(const void* kernel) {
  Lock lock(runtime().mutex);
  auto allowed = runtime().shared_bytes.find({current_device(), kernel});
  return allowed == runtime().shared_bytes.end() ? 48 << 10 : allowed->second;
}

cudaError_t cudaDriverGetVersion(int* version) {
  *version = 13000;
  return cudaSuccess;
}

cudaError_t cudaRuntimeGetVersion(int* version) {
  *version = 13000;
  return cudaSuccess;
}

cudaError_t cudaGetDeviceCount(int* count) {
  *count = static_cast<int>(setting("RVQ_EMULATED_DEVICES", 1));
  return *count == 0 ? cudaErrorNoDevice : cudaSuccess;
}

cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int) {
  *properties = {"emulated device", 8, 6, setting("RVQ_EMULATED_MEMORY", size_t{1} << 32),
                 kMultiprocessors};
  return cudaSuccess;
}

cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int) {
  switch (attribute) {
    case cudaDevAttrMultiProcessorCount:
      *value = kMultiprocessors;
      break;
    case cudaDevAttrMaxSharedMemoryPerMultiprocessor:
      *value = kMultiprocessorBytes;
      break;
    case cudaDevAttrGlobalMemoryBusWidth:
      *value = 64;
      break;
    case cudaDevAttrClockRate:
    case cudaDevAttrMemoryClockRate:
      *value = 1'000'000;
  }
  return cudaSuccess;
}

cudaError_t cudaGetDevice(int* device) {
  *device = current_device;
  return cudaSuccess;
}

cudaError_t cudaSetDevice(int device) {
  int count = 0;
  cudaGetDeviceCount(&count);
  if (device >= count) return emulation::failed(cudaErrorInvalidDevice);
  cudaError_t error = emulation::begin_call("cudaSetDevice", device);
  if (error == cudaSuccess) current_device = device;
  return error;
}

cudaError_t cudaMalloc(void** data, size_t bytes) {
  Lock lock(runtime().mutex);
  if (cudaError_t error = begin("cudaMalloc"); error != cudaSuccess) return error;
  if (runtime().device_bytes + bytes > setting("RVQ_EMULATED_MEMORY", size_t{1} << 32)) {
    return emulation::failed(cudaErrorMemoryAllocation);
  }
  runtime().device_bytes += bytes;
  return allocate(runtime().device, data, bytes);
}

// Waits for the whole device, as the real one does.
cudaError_t cudaFree(void* data) {
  Lock lock(runtime().mutex);
  if (cudaError_t error = begin("cudaFree"); error != cudaSuccess) return error;
  while (step()) continue;
  auto block = runtime().device.find(static_cast<char*>(data));
  if (block == runtime().device.end()) fail("cudaFree of what is not device memory");
  runtime().device_bytes -= block->second;
  runtime().device.erase(block);
  std::free(data);
  return cudaSuccess;
}

cudaError_t cudaMallocHost(void** data, size_t bytes) {
  Lock lock(runtime().mutex);
  if (cudaError_t error = begin("cudaMallocHost"); error != cudaSuccess) return error;
  return allocate(runtime().pinned, data, bytes);
}

cudaError_t cudaFreeHost(void* data) {
  Lock lock(runtime().mutex);
  if (cudaError_t error = begin("cudaFreeHost"); error != cudaSuccess) return error;
  while (step()) continue;
  if (runtime().pinned.erase(static_cast<char*>(data)) == 0) fail("cudaFreeHost of what is not pinned memory");
  std::free(data);
  return cudaSuccess;
}

cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, cudaMemcpyKind kind, cudaStream_t stream) {
  Lock lock(runtime().mutex);
  if (cudaError_t error = begin("cudaMemcpyAsync"); error != cudaSuccess) return error;
  bool to_device = kind == cudaMemcpyHostToDevice || kind == cudaMemcpyDeviceToDevice;
  bool from_device = kind == cudaMemcpyDeviceToHost || kind == cudaMemcpyDeviceToDevice;
  if (inside(runtime().device, to, bytes) != to_device) fail("a copy to the wrong kind of memory, or past its end");
  if (inside(runtime().device, from, bytes) != from_device) fail("a copy from the wrong kind, or past its end");
  emulation::enqueue(stream, [=] { std::memcpy(to, from, bytes); });
  bool pageable =
      (!to_device && !inside(runtime().pinned, to, bytes)) || (!from_device && !inside(runtime().pinned, from, bytes));
  return pageable ? cudaStreamSynchronize(stream) : cudaSuccess;
}

cudaError_t cudaMemsetAsync(void* data, int value, size_t bytes, cudaStream_t stream) {
  Lock lock(runtime().mutex);
  if (cudaError_t error = begin("cudaMemsetAsync"); error != cudaSuccess) return error;
  if (!inside(runtime().device, data, bytes)) fail("cudaMemset past the end");
  emulation::enqueue(stream, [=] { std::memset(data, value, bytes); });
  return cudaSuccess;
}

cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned) {
  Lock lock(runtime().mutex);
  if (cudaError_t error = begin("cudaStreamCreateWithFlags"); error != cudaSuccess) return error;
  *stream = new CUstream_st;
  runtime().streams.push_back(*stream);
  return cudaSuccess;
}

cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  Lock lock(runtime().mutex);
  if (cudaError_t error = begin("cudaStreamDestroy"); error != cudaSuccess) return error;
  cudaStreamSynchronize(stream);
  std::erase(runtime().streams, stream);
  delete stream;
  return cudaSuccess;
}

// A step at a time, so that other threads get the lock in between.
cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
  if (cudaError_t error = begin("cudaStreamSynchronize"); error != cudaSuccess) return error;
  for (;;) {
    Lock lock(runtime().mutex);
    if (stream_of(stream).queue.empty()) return cudaSuccess;
    step();
  }
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned) {
  if (cudaError_t error = begin("cudaEventCreateWithFlags"); error != cudaSuccess) return error;
  *event = new CUevent_st;
  return cudaSuccess;
}

cudaError_t cudaEventDestroy(cudaEvent_t event) {
  Lock lock(runtime().mutex);
  if (cudaError_t error = begin("cudaEventDestroy"); error != cudaSuccess) return error;
  while (step()) continue;
  delete event;
  return cudaSuccess;
}

cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
  Lock lock(runtime().mutex);
  if (cudaError_t error = begin("cudaEventRecord"); error != cudaSuccess) return error;
  size_t mark = ++event->recorded;
  emulation::enqueue(stream, [=] {
    event->reached = mark;
    event->when = Clock::now();
  });
  return cudaSuccess;
}

cudaError_t cudaEventSynchronize(cudaEvent_t event) {
  if (cudaError_t error = begin("cudaEventSynchronize"); error != cudaSuccess) return error;
  for (;;) {
    Lock lock(runtime().mutex);
    if (event->reached == event->recorded) return cudaSuccess;
    step();
  }
}

cudaError_t cudaEventElapsedTime(float* ms, cudaEvent_t start, cudaEvent_t end) {
  *ms = std::chrono::duration<float, std::milli>(end->when - start->when).count();
  return cudaSuccess;
}
