// A stream of our own.

#include "stream.h"

#include <cuda_runtime.h>

#include "failure.h"

namespace rvq::cuda {

Stream::Stream() { check(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), "cudaStreamCreate"); }

Stream::~Stream() { ignore_failure(cudaStreamDestroy(stream_)); }

void Stream::wait(const char* what) const { check(cudaStreamSynchronize(stream_), what); }

}  // namespace rvq::cuda
