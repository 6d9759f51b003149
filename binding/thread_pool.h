// The threads of the whole process: every environment and every quantizer shares them.

#pragma once

#include <condition_variable>
#include <cstddef>
#include <exception>
#include <functional>
#include <list>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "block_feed.h"

namespace rvq {

// Threads that several jobs share: the chunks of one long call, some of which wait while others run.
struct ThreadShare {
  explicit ThreadShare(size_t threads) : limit(threads) {}

  const size_t limit;  // at least 1
  size_t busy = 0;     // guarded by the pool's mutex
};

// One call's work, cut into blocks. Every thread that takes part calls `body` once; it works on blocks of the feed
// until there are none. The threads that take part change nothing about the result.
struct PoolJob {
  PoolJob(size_t blocks, size_t threads, std::function<void(BlockFeed&)> body)
      : feed(blocks), max_threads(threads), body(std::move(body)) {}

  BlockFeed feed;
  const size_t max_threads;  // at least 1
  const std::function<void(BlockFeed&)> body;
  // Called once by the last thread to leave, unless the job is run by its caller; must not throw.
  std::function<void()> finished;
  // Null: the job is alone in counting its threads.
  std::shared_ptr<ThreadShare> share;
  // What the first failing thread threw; read it after the end.
  std::exception_ptr failure;

  // Guarded by the pool's mutex.
  size_t joined = 0;
  size_t left = 0;
  bool exhausted = false;  // some thread has come back: no block is left to begin
};

// Jobs are served first come, first served; the threads that one job cannot use go on to the next. Threads start when
// they are first needed and end with the process.
class ThreadPool {
 public:
  // Of work for the processors: as many threads as there are, more only for a caller who asks for them.
  static ThreadPool& shared();
  // Of jobs that mostly wait for a device: they neither take a processor from the others nor wait for one.
  static ThreadPool& of_devices();
  // Of memory that is to be freed when a device lets it: one thread, first come, first served.
  static ThreadPool& of_releases();

  explicit ThreadPool(size_t most_threads) : most_threads_(most_threads) {}
  ~ThreadPool();

  // Works on the job on the calling thread too; returns at its end and throws what it threw.
  void run(const std::shared_ptr<PoolJob>& job);

  // Returns at once.
  void start(const std::shared_ptr<PoolJob>& job);

  // Whether it has no job, waiting or under way.
  bool idle();

 private:
  void add(const std::shared_ptr<PoolJob>& job, size_t helpers);
  size_t claim(size_t wanted);
  void serve();
  static bool open(const PoolJob& job);
  void work_on(const std::shared_ptr<PoolJob>& job, std::unique_lock<std::mutex>& lock);

  std::mutex mutex_;
  std::condition_variable wake_;      // a thread is claimed, or the end
  std::condition_variable job_done_;  // some job's last thread has left
  std::list<std::shared_ptr<PoolJob>> jobs_;
  std::vector<std::thread> threads_;
  // Threads that sleep: those that nobody has called yet, and those that have been and are not awake.
  size_t idle_ = 0;
  size_t claimed_ = 0;
  size_t most_threads_;
  bool stopping_ = false;
};

}  // namespace rvq
