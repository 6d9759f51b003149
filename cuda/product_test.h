// Whether a device's tensor cores sum as exactly as the screen's bound (screen_bound.h) takes for granted.

#pragma once

namespace rvq::cuda {

// Measured once in a process for each device, on sums made to lose as many bits as they can. A device that is worse
// than half of the bound is not trusted: its rows are compared with every codeword, slowly and as exactly.
bool sums_are_trusted(int device);

}  // namespace rvq::cuda
