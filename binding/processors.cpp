// How many processors this process may really use. The standard library's answer ignores a container's CPU quota, and
// more threads than that are stopped by the scheduler in the middle of their work.

#include "processors.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <sstream>
#include <string>
#include <thread>
#include <utility>

#ifdef __linux__
#include <sched.h>
#endif

namespace rvq {

namespace {

#ifdef __linux__

constexpr double kUnlimited = 1e9;

size_t affinity_count() {
  cpu_set_t set;
  CPU_ZERO(&set);
  // Fails on machines with more processors than cpu_set_t holds.
  if (sched_getaffinity(0, sizeof set, &set) != 0) return std::thread::hardware_concurrency();
  return static_cast<size_t>(CPU_COUNT(&set));
}

// What a file says, nothing where there is none. Not by std::ifstream, which would need glibc 2.33.
std::istringstream text_of(const std::string& path) {
  std::string text;
  if (std::FILE* file = std::fopen(path.c_str(), "r")) {
    char piece[4096];
    while (size_t length = std::fread(piece, 1, sizeof piece, file)) text.append(piece, length);
    std::fclose(file);
  }
  return std::istringstream(std::move(text));
}

// cgroup v2: "max 100000" or "150000 100000", quota and period in µs.
double quota_v2(const std::string& folder) {
  std::istringstream file = text_of(folder + "/cpu.max");
  std::string quota;
  double period = 0;
  if (!(file >> quota >> period) || quota == "max" || period <= 0) return kUnlimited;
  std::istringstream number(quota);
  double value = 0;
  return number >> value && value > 0 ? value / period : kUnlimited;
}

// cgroup v1: two files, and a quota of −1 for none.
double quota_v1(const std::string& folder) {
  std::istringstream quota_file = text_of(folder + "/cpu.cfs_quota_us");
  std::istringstream period_file = text_of(folder + "/cpu.cfs_period_us");
  double quota = 0;
  double period = 0;
  if (!(quota_file >> quota) || !(period_file >> period) || quota <= 0 || period <= 0) return kUnlimited;
  return quota / period;
}

// The tightest quota from the process's own group up to the root of the mount. Inside a container the path that the
// kernel reports may not exist; the walk then ends at the mount, which is the container's own group.
double tightest(const std::string& mount, std::string path, double (*quota)(const std::string&)) {
  double least = quota(mount);
  while (path.size() > 1 && path[0] == '/') {
    least = std::min(least, quota(mount + path));
    path.resize(path.find_last_of('/'));
  }
  return least;
}

double cgroup_quota(const std::string& root) {
  std::istringstream groups = text_of(root + "/proc/self/cgroup");
  const std::string mounts = root + "/sys/fs/cgroup";
  double least = kUnlimited;
  for (std::string line; std::getline(groups, line);) {
    // hierarchy:controllers:path
    size_t first = line.find(':');
    size_t second = line.find(':', first + 1);
    if (first == std::string::npos || second == std::string::npos) continue;
    std::string path = line.substr(second + 1);
    std::string controllers = line.substr(first, second - first + 1);
    std::replace(controllers.begin(), controllers.end(), ':', ',');
    if (controllers == ",,") {
      least = std::min(least, tightest(mounts, path, quota_v2));
    } else if (controllers.find(",cpu,") != std::string::npos) {
      least = std::min(least, tightest(mounts + "/cpu", path, quota_v1));
      least = std::min(least, tightest(mounts + "/cpu,cpuacct", path, quota_v1));
    }
  }
  return least;
}

#endif

}  // namespace

size_t available_processors([[maybe_unused]] const std::string& root) {
#ifdef __linux__
  double quota = std::ceil(cgroup_quota(root));
  size_t processors = std::max<size_t>(affinity_count(), 1);
  return quota < static_cast<double>(processors) ? std::max<size_t>(static_cast<size_t>(quota), 1) : processors;
#else
  return std::max<size_t>(std::thread::hardware_concurrency(), 1);
#endif
}

}  // namespace rvq
