// Copies blocks on several threads, with stores that go past the caches.

#include "host_copy.h"

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <exception>
#include <memory>

#if defined(__SSE2__)
#include <emmintrin.h>
#endif

#include "arguments.h"
#include "job.h"
#include "thread_pool.h"

namespace rvq {

namespace {

// A thread copies so much in about 15 µs: the last block keeps nobody waiting for long.
constexpr size_t kBlockBytes = size_t{1} << 18;
// Less for each thread is not worth waking it.
constexpr size_t kThreadBytes = size_t{1} << 20;
// Some threads fill the memory's bandwidth; waking more only costs.
constexpr size_t kMostThreads = 16;
constexpr size_t kMostGivenThreads = 1024;

#if defined(__SSE2__)

// A cached store reads the line before it writes it: half as much traffic again.
void copy_past_caches(char* to, const char* from, size_t bytes) {
  constexpr size_t kLine = 64;
  size_t head = std::min(bytes, (kLine - reinterpret_cast<uintptr_t>(to) % kLine) % kLine);
  std::memcpy(to, from, head);
  size_t at = head;
  for (; at + kLine <= bytes; at += kLine) {
    auto* target = reinterpret_cast<__m128i*>(to + at);
    const auto* source = reinterpret_cast<const __m128i*>(from + at);
    __m128i first = _mm_loadu_si128(source);
    __m128i second = _mm_loadu_si128(source + 1);
    __m128i third = _mm_loadu_si128(source + 2);
    __m128i fourth = _mm_loadu_si128(source + 3);
    _mm_stream_si128(target, first);
    _mm_stream_si128(target + 1, second);
    _mm_stream_si128(target + 2, third);
    _mm_stream_si128(target + 3, fourth);
  }
  std::memcpy(to + at, from + at, bytes - at);
  // Such stores are in no order with those by which threads and devices are told that they are done.
  _mm_sfence();
}

#else

void copy_past_caches(char* to, const char* from, size_t bytes) { std::memcpy(to, from, bytes); }

#endif

}  // namespace

void copy_bytes(void* to, const void* from, size_t bytes, size_t threads) {
  if (bytes < kThreadBytes) {
    // An empty array may have no memory.
    if (bytes > 0) std::memcpy(to, from, bytes);
    return;
  }
  auto body = [=](BlockFeed& feed) {
    while (auto block = feed.next()) {
      size_t first = *block * kBlockBytes;
      copy_past_caches(static_cast<char*>(to) + first, static_cast<const char*>(from) + first,
                       std::min(kBlockBytes, bytes - first));
    }
  };
  size_t blocks = (bytes + kBlockBytes - 1) / kBlockBytes;
  size_t useful = std::min({threads, kMostThreads, bytes / kThreadBytes});
  ThreadPool::shared().run(std::make_shared<PoolJob>(blocks, useful, body));
}

Napi::Value copy_elements(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  Arguments arguments(info[0]);
  size_t threads = arguments.size_between("threads", 1, kMostGivenThreads);
  Napi::Value source_array = arguments.value("source");
  Napi::Value target_array = arguments.value("target");
  // From here to the end no JavaScript runs that could detach them.
  size_t bytes = 0;
  size_t target_bytes = 0;
  const void* source = number_elements(source_array, "source", &bytes);
  void* target = number_elements(target_array, "target", &target_bytes);
  if (bytes != target_bytes) throw arguments.error("target", "as many bytes as source");
  try {
    copy_bytes(target, source, bytes, threads);
  } catch (...) {
    throw to_error(env, std::current_exception());
  }
  return env.Undefined();
}

}  // namespace rvq
