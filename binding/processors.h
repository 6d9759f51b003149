// How many processors this process may really use.

#pragma once

#include <cstddef>
#include <string>

namespace rvq {

// At least 1: the affinity mask, cut to the CPU quota of the control group (containers) where there is one. `root` is
// where /proc and /sys are looked for: tests have trees of their own.
size_t available_processors(const std::string& root = "");

}  // namespace rvq
