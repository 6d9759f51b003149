// The memory that a thread is about to free.

#include "cuda_release.h"

#include <condition_variable>
#include <exception>
#include <mutex>

#include "thread_pool.h"

namespace rvq {

namespace {

// Memory is freed in the order in which it was let go of.
struct Releases {
  std::mutex mutex;
  std::condition_variable freed;
  size_t let_go = 0;
  size_t done = 0;
};

// Never destroyed: objects are finalized until the end of the process.
Releases& releases() {
  static auto* releases = new Releases;
  return *releases;
}

void count_freed() {
  std::lock_guard<std::mutex> lock(releases().mutex);
  releases().done++;
  releases().freed.notify_all();
}

}  // namespace

void release(std::function<void()> free) noexcept {
  if (!ThreadPool::of_devices().idle()) {
    std::lock_guard<std::mutex> lock(releases().mutex);
    try {
      auto body = [free](BlockFeed& feed) {
        feed.next();
        free();
        count_freed();
      };
      ThreadPool::of_releases().start(std::make_shared<PoolJob>(1, 1, body));
      releases().let_go++;
      return;
    } catch (const std::exception&) {
      // No thread, or no memory for a job.
    }
  }
  free();
}

size_t times_released() {
  std::lock_guard<std::mutex> lock(releases().mutex);
  return releases().done;
}

void wait_for_releases() {
  std::unique_lock<std::mutex> lock(releases().mutex);
  size_t let_go = releases().let_go;
  releases().freed.wait(lock, [let_go] { return releases().done >= let_go; });
}

}  // namespace rvq
