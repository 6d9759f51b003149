// Calls from JavaScript into the core: run at once, or on the pool with a promise.

#pragma once

#include <napi.h>

#include <condition_variable>
#include <cstddef>
#include <exception>
#include <list>
#include <memory>
#include <mutex>
#include <stdexcept>
#include <string>
#include <vector>

#include "block_feed.h"
#include "thread_pool.h"

namespace rvq {

// A failure that programs tell apart by the `code` of the error that it becomes.
struct CodedFailure : std::runtime_error {
  CodedFailure(const char* code, const std::string& message) : std::runtime_error(message), code(code) {}

  const char* code;
};

// The JavaScript error of an exception.
Napi::Error to_error(Napi::Env env, const std::exception_ptr& failure);

// What the pool runs and what JavaScript gets for it.
class Call {
 public:
  Call() = default;
  Call(const Call&) = delete;
  Call& operator=(const Call&) = delete;
  virtual ~Call() = default;

  virtual size_t blocks() const = 0;
  // Multiply-adds, about: small calls are not shared out.
  virtual double work() const = 0;
  // Whose threads run it later.
  virtual ThreadPool& pool() const { return ThreadPool::shared(); }
  // On any thread, and on several at once.
  virtual void run(BlockFeed& feed) = 0;
  // On the JavaScript thread after the last block; may throw a Napi::Error.
  virtual Napi::Value result(Napi::Env env) = 0;
};

// Runs the call on this thread and up to threads − 1 others.
Napi::Value run_now(Napi::Env env, Call& call, size_t threads);

// The asynchronous calls of one JavaScript environment (the main thread or a worker).
class Jobs {
 public:
  // Once in every environment, when the addon is loaded.
  static void attach(Napi::Env env);

  // Runs the call on up to `threads` threads of its pool, or here and now where it is that short. Calls with the same
  // object `chunk_of` share the threads while they are under way (undefined: none do). `kept` are the arrays it reads
  // and writes: they live at least as long as the call does, and so does the memory of those in pinned rooms, which
  // the end of a worker would free before its calls have ended. The promise settles with the call's result or with
  // what it threw.
  static Napi::Value run_later(Napi::Env env, std::unique_ptr<Call> call, size_t threads,
                               const std::vector<Napi::Object>& kept, const Napi::Value& chunk_of = {});

 private:
  struct Pending;

  explicit Jobs(Napi::Env env);
  std::shared_ptr<ThreadShare> share_of(const Napi::Value& chunk_of, size_t threads) const;
  void finish(Pending* pending);
  void settle_finished(Napi::Env env);
  static void settle(Napi::Env env, const Pending& pending);
  void abandon_all();

  napi_threadsafe_function wake_ = nullptr;
  // Of the JavaScript thread.
  std::list<std::unique_ptr<Pending>> pending_;

  std::mutex mutex_;
  std::condition_variable all_finished_;
  size_t running_ = 0;              // guarded by mutex_
  std::vector<Pending*> finished_;  // guarded by mutex_
};

#ifdef RVQ_TESTING
// mostThreads(): the most threads that asynchronous calls have had at once, all calls together, since this was last
// asked.
Napi::Value most_threads(const Napi::CallbackInfo& info);
#endif

}  // namespace rvq
