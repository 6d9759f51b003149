// Which kernels this processor can run: the compiler's own test, which asks the operating system too.

#include "instruction_set.h"

namespace rvq::cpu {

const std::vector<const Kernels*>& supported_kernels() {
  static const std::vector<const Kernels*> supported = [] {
    std::vector<const Kernels*> levels;
#if defined(__x86_64__)
    // What CMakeLists.txt compiles each level with, and for VNNI what its file says in assembly.
    bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    bool avx512 = avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") &&
                  __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512bw");
    bool vnni = avx512 && __builtin_cpu_supports("avx512vnni");
#ifdef RVQ_EMULATE_AVX512
    avx512 = vnni = avx2;
#endif
    if (vnni) levels.push_back(&kAvx512VnniKernels);
    if (avx512) levels.push_back(&kAvx512Kernels);
    if (avx2) levels.push_back(&kAvx2Kernels);
#elif defined(__aarch64__)
    levels.push_back(&kNeonKernels);
#endif
    levels.push_back(&kPortableKernels);
    return levels;
  }();
  return supported;
}

const Kernels* find_kernels(std::string_view name) {
  for (const Kernels* kernels : supported_kernels()) {
    if (name.empty() || name == kernels->name) return kernels;
  }
  return nullptr;
}

}  // namespace rvq::cpu
