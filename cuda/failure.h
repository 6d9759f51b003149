// What goes wrong on a device, as an exception.

#pragma once

#include <stdexcept>
#include <string>

namespace rvq::cuda {

class Failure : public std::runtime_error {
 public:
  enum class Kind {
    kOutOfMemory,  // of the device: less at a time may fit
    kDeviceLost,   // the context is gone: no later call on this device can succeed in this process
    kOther,
  };

  Failure(Kind kind, const std::string& message) : std::runtime_error(message), kind(kind) {}

  const Kind kind;
};

// Throws where `error` (a cudaError_t) is not success; `what` names the operation. The runtime's last error is cleared.
void check(int error, const char* what);

// For destructors: what has failed there is not to be the last error of a later call.
void ignore_failure(int error) noexcept;

}  // namespace rvq::cuda
