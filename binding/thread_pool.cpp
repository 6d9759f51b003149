// The threads of the whole process and the list of jobs they serve.

#include "thread_pool.h"

#include <algorithm>
#include <exception>
#include <stdexcept>

#include "processors.h"

namespace rvq {

namespace {

// A device has work for a few calls at a time (cuda/lane.h), and there may be several. Further ones wait in line.
constexpr size_t kMostDeviceCalls = 32;

}  // namespace

ThreadPool& ThreadPool::shared() {
  static ThreadPool pool(available_processors());
  return pool;
}

// Made by the first call on a device, so that it ends before the driver, which is loaded by then, and before the
// others: one helps it to copy, for the other it waits.
ThreadPool& ThreadPool::of_devices() {
  shared();
  of_releases();
  static ThreadPool pool(kMostDeviceCalls);
  return pool;
}

ThreadPool& ThreadPool::of_releases() {
  static ThreadPool pool(1);
  return pool;
}

// Runs when the process ends. Jobs still under way are cut short after the blocks in hand; nobody is left to be told.
ThreadPool::~ThreadPool() {
  {
    std::lock_guard lock(mutex_);
    stopping_ = true;
    for (const auto& job : jobs_) job->feed.stop();
  }
  wake_.notify_all();
  for (std::thread& thread : threads_) thread.join();
}

void ThreadPool::run(const std::shared_ptr<PoolJob>& job) {
  if (job->max_threads == 1 || job->feed.blocks() <= 1) return job->body(job->feed);
  std::unique_lock lock(mutex_);
  add(job, std::min(job->max_threads, job->feed.blocks()) - 1);
  work_on(job, lock);
  job_done_.wait(lock, [&] { return job->left == job->joined; });
  if (job->failure) std::rethrow_exception(job->failure);
}

void ThreadPool::start(const std::shared_ptr<PoolJob>& job) {
  std::lock_guard lock(mutex_);
  size_t helpers = std::clamp<size_t>(job->feed.blocks(), 1, job->max_threads);
  // The threads of a share that is used up come to this job as they leave the others.
  if (job->share) helpers = std::min(helpers, job->share->limit - job->share->busy);
  add(job, helpers);
  if (!threads_.empty()) return;
  jobs_.remove(job);
  throw std::runtime_error("the operating system refused to start a thread");
}

bool ThreadPool::idle() {
  std::lock_guard lock(mutex_);
  return jobs_.empty();
}

void ThreadPool::add(const std::shared_ptr<PoolJob>& job, size_t helpers) {
  most_threads_ = std::max(most_threads_, job->max_threads);

  // The last thing here that may throw: a job on the list is one that its owner keeps until its end.
  jobs_.push_back(job);
  for (size_t found = claim(helpers); found < helpers && threads_.size() < most_threads_; found++) {
    try {
      threads_.emplace_back([this] { serve(); });
    } catch (const std::exception&) {
      break;  // No thread (system_error) or no memory for one (bad_alloc): the threads there are will do.
    }
  }
}

// Wakes idle threads, and says how many. They look for the first open job.
size_t ThreadPool::claim(size_t wanted) {
  size_t claimed = std::min(wanted, idle_);
  idle_ -= claimed;
  claimed_ += claimed;
  if (claimed == 1) {
    wake_.notify_one();
  } else if (claimed > 1) {
    wake_.notify_all();
  }
  return claimed;
}

// Whether another thread may join the job.
bool ThreadPool::open(const PoolJob& job) {
  return !job.exhausted && job.joined < job.max_threads && (!job.share || job.share->busy < job.share->limit);
}

void ThreadPool::serve() {
  std::unique_lock lock(mutex_);
  for (;;) {
    auto next = std::find_if(jobs_.begin(), jobs_.end(), [](const auto& job) { return open(*job); });
    if (stopping_) return;
    if (next == jobs_.end()) {
      idle_++;
      wake_.wait(lock, [this] { return claimed_ > 0 || stopping_; });
      if (stopping_) return;
      claimed_--;
      continue;
    }
    std::shared_ptr<PoolJob> job = *next;
    work_on(job, lock);
  }
}

// Called and left with the lock held.
void ThreadPool::work_on(const std::shared_ptr<PoolJob>& job, std::unique_lock<std::mutex>& lock) {
  job->joined++;
  if (job->share) job->share->busy++;
  lock.unlock();
  std::exception_ptr failure;
  try {
    job->body(job->feed);
  } catch (...) {
    failure = std::current_exception();
    job->feed.stop();
  }
  lock.lock();

  job->exhausted = true;
  // A job that waited for this may be joined now, by this thread or, where it goes elsewhere, by another.
  if (job->share && job->share->busy-- == job->share->limit) claim(1);
  if (failure && !job->failure) job->failure = failure;
  job->left++;
  if (job->left < job->joined) return;
  jobs_.remove(job);
  job_done_.notify_all();
  if (job->finished && !stopping_) {
    lock.unlock();
    job->finished();
    lock.lock();
  }
}

}  // namespace rvq
