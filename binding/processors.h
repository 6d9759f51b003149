// How many processors this process may really use.

#pragma once

#include <cstddef>

namespace rvq {

// At least 1: the affinity mask, cut to the CPU quota of the control group (containers) where there is one.
size_t available_processors();

}  // namespace rvq
