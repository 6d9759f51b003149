// Calls from JavaScript into the core. Long work runs on the process's own threads, never on libuv's four threads; its
// end is reported through one thread-safe function an environment.

#include "job.h"

#include <algorithm>
#include <atomic>
#include <exception>
#include <utility>

#ifdef RVQ_CUDA
#include "cuda_staging.h"
#endif

namespace rvq {

namespace {

// Waking a thread and hearing from it costs tens of microseconds of both threads: more than so many multiply-adds.
constexpr double kWorkPerThread = 1 << 19;

size_t useful_threads(const Call& call, size_t threads) {
  double useful = 1 + call.work() / kWorkPerThread;
  return useful < static_cast<double>(threads) ? static_cast<size_t>(useful) : threads;
}

#ifdef RVQ_TESTING
std::atomic<size_t> threads_now{0};
std::atomic<size_t> threads_most{0};

struct CountedThread {
  CountedThread() {
    size_t now = ++threads_now;
    size_t most = threads_most.load();
    while (most < now && !threads_most.compare_exchange_weak(most, now)) continue;
  }
  ~CountedThread() { --threads_now; }
};
#else
struct CountedThread {};
#endif

// Its memory too where that is none of Node's.
struct KeptArray {
  Napi::ObjectReference array;
  std::shared_ptr<const void> room;
};

KeptArray keep(const Napi::Object& array) {
#ifdef RVQ_CUDA
  return {Napi::Persistent(array), room_of_array(array)};
#else
  return {Napi::Persistent(array), nullptr};
#endif
}

// For calls that are over before another thread would have begun.
Napi::Value run_on_the_spot(Napi::Env env, Call& call) {
  auto promise = Napi::Promise::Deferred::New(env);
  try {
    promise.Resolve(run_now(env, call, 1));
  } catch (const Napi::Error& error) {
    promise.Reject(error.Value());
  } catch (...) {
    promise.Reject(to_error(env, std::current_exception()).Value());
  }
  return promise.Promise();
}

}  // namespace

Napi::Error to_error(Napi::Env env, const std::exception_ptr& failure) {
  try {
    std::rethrow_exception(failure);
  } catch (const CodedFailure& error) {
    Napi::Error coded = Napi::Error::New(env, error.what());
    coded.Set("code", Napi::String::New(env, error.code));
    return coded;
  } catch (const std::bad_alloc&) {
    return Napi::Error::New(env, "out of memory");
  } catch (const std::exception& error) {
    return Napi::Error::New(env, error.what());
  } catch (...) {
    return Napi::Error::New(env, "unknown native error");
  }
}

Napi::Value run_now(Napi::Env env, Call& call, size_t threads) {
  auto body = [&call](BlockFeed& feed) { call.run(feed); };
  try {
    call.pool().run(std::make_shared<PoolJob>(call.blocks(), useful_threads(call, threads), body));
  } catch (...) {
    throw to_error(env, std::current_exception());
  }
  return call.result(env);
}

struct Jobs::Pending {
  std::unique_ptr<Call> call;
  std::shared_ptr<PoolJob> job;
  Napi::Promise::Deferred promise;
  std::vector<KeptArray> kept;
  Napi::ObjectReference chunk_of;  // where job->share is not null
};

void Jobs::attach(Napi::Env env) { env.SetInstanceData(new Jobs(env)); }

Jobs::Jobs(Napi::Env env) {
  auto settle = [](napi_env caller, napi_value, void* self, void*) {
    // Without an environment it is being torn down: abandon_all has done what is left to do.
    if (caller != nullptr) static_cast<Jobs*>(self)->settle_finished(Napi::Env(caller));
  };
  napi_status status = napi_create_threadsafe_function(env, nullptr, nullptr, Napi::String::New(env, "rvq"), 0, 1,
                                                       nullptr, nullptr, this, settle, &wake_);
  NAPI_THROW_IF_FAILED_VOID(env, status);
  napi_unref_threadsafe_function(env, wake_);
  // Hooks run last in, first out: this one before that of the thread-safe function, which must outlive the jobs.
  env.AddCleanupHook([this] { abandon_all(); });
}

Napi::Value Jobs::run_later(Napi::Env env, std::unique_ptr<Call> call, size_t threads,
                            const std::vector<Napi::Object>& kept, const Napi::Value& chunk_of) {
  if (call->work() <= kWorkPerThread) return run_on_the_spot(env, *call);
  Jobs* jobs = env.GetInstanceData<Jobs>();
  auto pending =
      std::make_unique<Pending>(Pending{std::move(call), nullptr, Napi::Promise::Deferred::New(env), {}, {}});
  for (const Napi::Object& array : kept) pending->kept.push_back(keep(array));
  Pending* raw = pending.get();
  auto body = [raw](BlockFeed& feed) {
    [[maybe_unused]] CountedThread counted;
    raw->call->run(feed);
  };
  raw->job = std::make_shared<PoolJob>(raw->call->blocks(), useful_threads(*raw->call, threads), body);
  raw->job->finished = [jobs, raw] { jobs->finish(raw); };
  raw->job->share = jobs->share_of(chunk_of, threads);
  if (raw->job->share) raw->chunk_of = Napi::Persistent(chunk_of.As<Napi::Object>());

  // Owned before it runs: from start() on nothing may fail, for the threads use what `raw` points to.
  jobs->pending_.push_back(std::move(pending));
  {
    std::lock_guard lock(jobs->mutex_);
    jobs->running_++;
  }
  try {
    raw->call->pool().start(raw->job);
  } catch (const std::exception& error) {
    {
      std::lock_guard lock(jobs->mutex_);
      jobs->running_--;
    }
    jobs->pending_.pop_back();
    throw Napi::Error::New(env, error.what());
  }
  // A process with nothing else to do waits for its promises.
  if (jobs->pending_.size() == 1) napi_ref_threadsafe_function(env, jobs->wake_);
  return raw->promise.Promise();
}

// That of the chunks under way of the same call, or one of its own for the first of them.
std::shared_ptr<ThreadShare> Jobs::share_of(const Napi::Value& chunk_of, size_t threads) const {
  if (chunk_of.IsEmpty() || chunk_of.IsUndefined()) return nullptr;
  for (const auto& other : pending_) {
    if (other->job->share && other->chunk_of.Value().StrictEquals(chunk_of)) return other->job->share;
  }
  return std::make_shared<ThreadShare>(threads);
}

// On a thread of the pool. The lock is held to the end: once running_ is zero, abandon_all may free everything.
void Jobs::finish(Pending* pending) {
  std::lock_guard lock(mutex_);
  finished_.push_back(pending);
  napi_call_threadsafe_function(wake_, nullptr, napi_tsfn_nonblocking);
  running_--;
  all_finished_.notify_all();
}

void Jobs::settle_finished(Napi::Env env) {
  std::vector<Pending*> finished;
  {
    std::lock_guard lock(mutex_);
    finished.swap(finished_);
  }
  for (Pending* pending : finished) {
    Napi::HandleScope scope(env);
    auto owned = std::find_if(pending_.begin(), pending_.end(), [&](const auto& p) { return p.get() == pending; });
    std::unique_ptr<Pending> settled = std::move(*owned);
    pending_.erase(owned);
    if (pending_.empty()) napi_unref_threadsafe_function(env, wake_);
    settle(env, *settled);
  }
}

// Throws nothing: an exception that left the thread-safe function's callback would end the process.
void Jobs::settle(Napi::Env env, const Pending& pending) {
  try {
    if (pending.job->failure) throw to_error(env, pending.job->failure);
    pending.promise.Resolve(pending.call->result(env));
  } catch (const Napi::Error& error) {
    try {
      pending.promise.Reject(error.Value());
    } catch (const Napi::Error&) {
      // A worker that is being terminated runs no more JavaScript: nobody waits for this promise.
    }
  }
}

// The environment is going away (worker.terminate(), the end of the process). Its arrays go with it, so the threads
// must let go of them first: they finish the blocks in hand and begin no others. The promises stay as they are.
void Jobs::abandon_all() {
  for (const auto& pending : pending_) pending->job->feed.stop();
  std::unique_lock lock(mutex_);
  all_finished_.wait(lock, [this] { return running_ == 0; });
  finished_.clear();
  pending_.clear();
  napi_release_threadsafe_function(wake_, napi_tsfn_abort);
}

#ifdef RVQ_TESTING
Napi::Value most_threads(const Napi::CallbackInfo& info) {
  return Napi::Number::New(info.Env(), static_cast<double>(threads_most.exchange(threads_now.load())));
}
#endif

}  // namespace rvq
