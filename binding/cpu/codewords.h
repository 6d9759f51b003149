// What is asked of a stage's codewords before they are packed. cuda/ has its own, for codewords on a device.

#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace rvq::cpu {

// The codes whose codeword of codewords[count][stride] equals none before it, in `dim` elements, ascending;
// weights[dim] or null. An equal one later can never win: its distances are the same, and ties go to the lowest code.
std::vector<uint32_t> distinct_codes(const float* codewords, size_t count, size_t stride, size_t dim,
                                     const float* weights);

// centre[dim]: near most of the codewords[…][stride] of these codes, of which there are some. Any centre is correct.
// Distances are measured with elements times scale[dim], or as they are where that is null.
void choose_centre(const float* codewords, size_t stride, size_t dim, const std::vector<uint32_t>& codes,
                   const double* scale, float* centre);

}  // namespace rvq::cpu
