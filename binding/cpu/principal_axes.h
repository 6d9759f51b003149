// The directions in which a set of vectors varies most, roughly: any directions are correct for what they are used for.

#pragma once

#include <cstddef>
#include <vector>

namespace rvq::cpu {

// Row-major float64 matrix rows[count][dim].
struct SampleRows {
  size_t count;
  size_t dim;
  std::vector<double> elements;

  const double* row(size_t n) const { return elements.data() + n * dim; }
};

// Σ a_i·b_i in float64, in any order.
double dot(const double* a, const double* b, size_t n);

// rows·rowsᵀ, [count][count].
std::vector<double> gram_matrix(const SampleRows& rows);

// How many directions of equal variance would spread the energy as far: (Σλ)² / Σλ² over the eigenvalues λ, from the
// trace and the Frobenius norm; 0 for rows of zeros.
double effective_rank(const std::vector<double>& gram, size_t count);

// axes[num_axes][dim], orthonormal but for rounding, the most important first; fewer where the rows span fewer.
// Orthogonal iteration on the Gram matrix: G·Q, made orthonormal again, a few times, then axes = rowsᵀ·Q.
std::vector<double> principal_axes(const SampleRows& rows, const std::vector<double>& gram, size_t num_axes);

}  // namespace rvq::cpu
