// What the process knows about a device: that it works, or that it is lost.

#pragma once

#include <cstddef>
#include <string>

namespace rvq::cuda {

// Makes sure that this device runs this build's kernels: creates its context (some tenths of a second) and runs one,
// the first time. Throws a Failure that says why where it does not.
void open_device(int device);

// Throws a Failure of kind kDeviceLost where mark_lost has been called for the device.
void check_not_lost(int device);

bool is_lost(int device);

// No later call on this device can succeed in this process.
void mark_lost(int device, const std::string& why);

// Runs `work` on a device that is not lost; where that fails because it is lost now, later calls fail at once.
template <typename Work>
void on_device(int device, const Work& work);

// How encode() searches: as split_search.h chooses, or, for tests and benchmarks, always (where it can) or never split.
enum class SearchForm { kChosen, kSplit, kWhole };

// Limits that tests set; zero: none.
struct TestLimits {
  size_t piece_rows;    // rows of a piece
  size_t memory_bytes;  // of device memory of a lane: more is out of memory
  SearchForm search_form = SearchForm::kChosen;
};
void set_test_limits(const TestLimits& limits);
TestLimits test_limits();

}  // namespace rvq::cuda

#include "device_memory.h"
#include "failure.h"

namespace rvq::cuda {

template <typename Work>
void on_device(int device, const Work& work) {
  check_not_lost(device);
  try {
    CurrentDevice current(device);
    work();
  } catch (const Failure& failure) {
    if (failure.kind == Failure::Kind::kDeviceLost) mark_lost(device, failure.what());
    throw;
  }
}

}  // namespace rvq::cuda
