// Which kernels this processor can run, best first, and which of them to use.

#pragma once

#include <string_view>
#include <vector>

#include "kernels.h"

namespace rvq::cpu {

// The levels of this machine in order of preference; the last one runs everywhere.
const std::vector<const Kernels*>& supported_kernels();

// The level of that name, or the best one for an empty name; null where this machine has no such level.
const Kernels* find_kernels(std::string_view name);

}  // namespace rvq::cpu
