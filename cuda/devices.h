// The CUDA devices of this machine, or the reason why there are none.

#pragma once

#include <cstddef>
#include <string>
#include <vector>

namespace rvq::cuda {

struct Device {
  std::string name;
  std::string compute_capability;  // "8.6"
  size_t memory_bytes;
  int multiprocessors;
  int clock_khz;         // the highest
  int memory_clock_khz;  // two transfers a clock
  int memory_bus_bits;
};

struct DeviceList {
  std::vector<Device> devices;
  std::string driver_version;   // the newest CUDA version the driver supports, "13.0"; empty without a driver
  std::string runtime_version;  // the CUDA version this was compiled with
  std::string reason;           // empty where there are devices
};

// Never fails: whatever goes wrong is the reason. Creates no CUDA context.
DeviceList list_devices();

}  // namespace rvq::cuda
