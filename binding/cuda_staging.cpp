// Makes rooms of the CUDA core on a thread of the pool, and hands them to JavaScript.

#include "cuda_staging.h"

#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <utility>

#include "../cuda/staging_room.h"
#include "arguments.h"
#include "cuda_device.h"
#include "cuda_task.h"
#include "job.h"

namespace rvq {

namespace {

// The rooms that buffers stand for, each under a number of its own: Node may or may not finalize a buffer that it could
// not make, so letting go twice must do nothing.
class HeldRooms {
 public:
  static HeldRooms& all() {
    // Never destroyed: buffers are finalized until the end of the process.
    static auto* all = new HeldRooms;
    return *all;
  }

  uintptr_t hold(const cuda::Room& room) {
    std::lock_guard<std::mutex> lock(mutex_);
    rooms_.emplace(++last_, room);
    return last_;
  }

  void let_go(uintptr_t number) {
    cuda::Room room;
    std::lock_guard<std::mutex> lock(mutex_);
    auto found = rooms_.find(number);
    if (found == rooms_.end()) return;
    room = std::move(found->second);
    rooms_.erase(found);
  }

 private:
  std::mutex mutex_;
  std::map<uintptr_t, cuda::Room> rooms_;
  uintptr_t last_ = 0;
};

void let_go(napi_env, void*, void* hint) { HeldRooms::all().let_go(reinterpret_cast<uintptr_t>(hint)); }

Napi::Value as_buffer(Napi::Env env, const cuda::Room& room) {
  uintptr_t number = HeldRooms::all().hold(room);
  napi_value buffer = nullptr;
  napi_status status = napi_create_external_arraybuffer(env, room->data(), room->size(), let_go,
                                                        reinterpret_cast<void*>(number), &buffer);
  if (status == napi_ok) return Napi::Value(env, buffer);
  HeldRooms::all().let_go(number);
  if (status == napi_no_external_buffers_allowed) return env.Null();
  throw Napi::Error::New(env);
}

}  // namespace

Napi::Value cuda_staging_room(const Napi::CallbackInfo& info) {
  Arguments arguments(info[0]);
  int device = read_device(arguments);
  size_t bytes = arguments.size_between("bytes", 1, cuda::kMostRoomBytes);
  auto room = std::make_shared<cuda::Room>();
  // Pinning takes the system milliseconds.
  auto call = std::make_unique<CudaTask>([room, device, bytes] { *room = cuda::make_room(device, bytes); },
                                         [room](Napi::Env env) { return as_buffer(env, *room); });
  return Jobs::run_later(info.Env(), std::move(call), 1, {});
}

std::shared_ptr<const void> room_of_array(const Napi::Object& array) {
  size_t length = 0;
  void* data = nullptr;
  napi_status status = napi_get_typedarray_info(array.Env(), array, nullptr, &length, &data, nullptr, nullptr);
  // All of it lies where its first byte does.
  return status == napi_ok && length > 0 ? cuda::room_of(data, 1) : nullptr;
}

#ifdef RVQ_TESTING
Napi::Value cuda_test_rooms(const Napi::CallbackInfo& info) {
  cuda::RoomUse use = cuda::room_use();
  Napi::Object result = Napi::Object::New(info.Env());
  result.Set("bytes", static_cast<double>(use.bytes));
  result.Set("found", static_cast<double>(use.found));
  return result;
}
#endif

}  // namespace rvq
