// Options that every entry to the CPU core reads: { threads, instructionSet }.

#pragma once

#include <cstddef>

#include "arguments.h"
#include "cpu/kernels.h"

namespace rvq {

struct CpuOptions {
  size_t threads;
  const cpu::Kernels* kernels;
};

CpuOptions read_cpu_options(const Arguments& arguments);

}  // namespace rvq
