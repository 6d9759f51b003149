// Streams the rows of a call through a device: pieces of bounded size, whose copies run beside the kernels of others.

#pragma once

#include <cstddef>
#include <cstring>
#include <functional>
#include <utility>

namespace rvq::cuda {

class Lane;

// memcpy, by as many threads as it likes.
using CopyBytes = std::function<void(void* to, const void* from, size_t bytes)>;

// Memory of a lane that a piece needs: `host_bytes` of it are there twice, pinned and on the device.
struct PieceMemory {
  size_t host_bytes;
  size_t device_bytes;
};

// An operation on rows in host memory.
class RowOperation {
 public:
  RowOperation() = default;
  RowOperation(const RowOperation&) = delete;
  RowOperation& operator=(const RowOperation&) = delete;
  virtual ~RowOperation() = default;

  // How rows are copied between the host's arrays and pinned memory; before the call.
  void copy_by(CopyBytes copy) { copy_ = std::move(copy); }

  virtual size_t count() const = 0;
  // Bytes of a row on its way to the device and back.
  virtual size_t row_bytes() const = 0;
  virtual PieceMemory memory(size_t rows) const = 0;

  // Before the first piece, on a lane with room for one row.
  virtual void begin(Lane&) {}
  // Copies rows to pinned memory and enqueues all that is to be done with them.
  virtual void submit(size_t first, size_t rows, Lane& lane) = 0;
  // Copies from pinned memory when that is done, for one piece after the other in order of rows. False: the call ends
  // here.
  virtual bool finish(size_t first, size_t rows, Lane& lane) = 0;
  // After the last piece, unless the call has ended before.
  virtual void end(Lane&) {}

 protected:
  void copy(void* to, const void* from, size_t bytes) const { copy_(to, from, bytes); }

 private:
  CopyBytes copy_ = [](void* to, const void* from, size_t bytes) { std::memcpy(to, from, bytes); };
};

// Runs the operation. `go_on` is asked before each piece: false ends the call early. A device that is out of memory
// gets half the rows at a time, down to one; then, and for everything else that goes wrong, this throws a Failure.
void stream_rows(RowOperation& operation, int device, const std::function<bool()>& go_on);

}  // namespace rvq::cuda
