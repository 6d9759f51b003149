// A stream of our own.

#pragma once

struct CUstream_st;

namespace rvq::cuda {

// On the device that is current when it is made. It waits for no other, and no other for it: the default stream would
// wait for those of other programs in this process.
class Stream {
 public:
  Stream();
  ~Stream();
  Stream(const Stream&) = delete;
  Stream& operator=(const Stream&) = delete;

  CUstream_st* get() const { return stream_; }

  // Until all that was enqueued is done; `what` names it where it fails.
  void wait(const char* what) const;

 private:
  CUstream_st* stream_ = nullptr;
};

}  // namespace rvq::cuda
