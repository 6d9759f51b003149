// Which codewords of a stage are to be searched. cuda/ has its own, for codewords on a device.

#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace rvq::cpu {

// The codes whose codeword of codewords[count][stride] equals none before it, in `dim` elements, ascending;
// weights[dim] or null. An equal one later can never win: its distances are the same, and ties go to the lowest code.
std::vector<uint32_t> distinct_codes(const float* codewords, size_t count, size_t stride, size_t dim,
                                     const float* weights);

}  // namespace rvq::cpu
