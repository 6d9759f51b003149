// Options that every entry to the CPU core reads.

#include "cpu_options.h"

#include "cpu/instruction_set.h"

namespace rvq {

CpuOptions read_cpu_options(const Arguments& arguments) {
  constexpr size_t kMostThreads = 1024;
  CpuOptions options{arguments.size_between("threads", 1, kMostThreads), nullptr};
  options.kernels = cpu::find_kernels(arguments.string("instructionSet"));
  if (options.kernels == nullptr) throw arguments.error("instructionSet", "one of cpuInfo().instructionSets");
  return options;
}

}  // namespace rvq
