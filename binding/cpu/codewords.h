// What both cores ask of a stage's codewords before they pack them, each in its own form. C++17: nvcc includes it too.

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

// units[count][dim] = rows[count][dim] brought to unit length (docs/exactness.md); zero where a row is zero.
void unit_rows(const float* rows, size_t count, size_t dim, float* units);

}  // namespace rvq::cpu
