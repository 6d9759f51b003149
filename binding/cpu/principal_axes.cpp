// The directions in which a set of vectors varies most, by orthogonal iteration.

#include "principal_axes.h"

#include <algorithm>
#include <cmath>
#include <cstdint>

namespace rvq::cpu {

namespace {

constexpr int kRounds = 4;
// A direction of which less than this share is left after those before it is made of rounding errors.
constexpr double kVanished = 1e-10;

// Gram and Schmidt, each vector twice: once leaves errors where it is nearly in the span of those before. Drops what
// vanishes; returns how many of the `count` vectors [dim] are left, at the front.
size_t make_orthonormal(std::vector<double>& vectors, size_t count, size_t dim) {
  size_t kept = 0;
  for (size_t n = 0; n < count; n++) {
    double* v = vectors.data() + kept * dim;
    if (kept < n) std::copy_n(vectors.data() + n * dim, dim, v);
    double before = std::sqrt(dot(v, v, dim));
    for (int time = 0; time < 2; time++) {
      for (size_t other = 0; other < kept; other++) {
        const double* u = vectors.data() + other * dim;
        double share = dot(u, v, dim);
        for (size_t i = 0; i < dim; i++) v[i] -= share * u[i];
      }
    }
    double norm = std::sqrt(dot(v, v, dim));
    if (!(norm > kVanished * before)) continue;
    for (size_t i = 0; i < dim; i++) v[i] /= norm;
    kept++;
  }
  return kept;
}

}  // namespace

double dot(const double* a, const double* b, size_t n) {
  // In lanes, which the compiler may not do by itself.
  constexpr size_t kLanes = 8;
  double sums[kLanes] = {};
  size_t i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    for (size_t lane = 0; lane < kLanes; lane++) sums[lane] += a[i + lane] * b[i + lane];
  }
  for (; i < n; i++) sums[0] += a[i] * b[i];
  double sum = 0;
  for (double lane : sums) sum += lane;
  return sum;
}

std::vector<double> gram_matrix(const SampleRows& rows) {
  size_t n = rows.count;
  std::vector<double> gram(n * n);
  for (size_t a = 0; a < n; a++) {
    for (size_t b = 0; b <= a; b++) gram[a * n + b] = gram[b * n + a] = dot(rows.row(a), rows.row(b), rows.dim);
  }
  return gram;
}

double effective_rank(const std::vector<double>& gram, size_t count) {
  double trace = 0;
  for (size_t n = 0; n < count; n++) trace += gram[n * count + n];
  double squares = dot(gram.data(), gram.data(), gram.size());
  return squares > 0 ? trace * trace / squares : 0;
}

std::vector<double> principal_axes(const SampleRows& rows, const std::vector<double>& gram, size_t num_axes) {
  size_t count = rows.count;
  num_axes = std::min({num_axes, count, rows.dim});
  // Anything that is not orthogonal to the axes will do to begin with: a fixed sequence of signs.
  std::vector<double> q(num_axes * count);
  uint32_t state = 1;
  for (double& element : q) {
    state = state * 1664525u + 1013904223u;
    element = state >> 31 != 0 ? 1.0 : -1.0;
  }
  std::vector<double> product(q.size());
  for (int round = 0; round < kRounds; round++) {
    for (size_t axis = 0; axis < num_axes; axis++) {
      for (size_t n = 0; n < count; n++) {
        product[axis * count + n] = dot(gram.data() + n * count, q.data() + axis * count, count);
      }
    }
    q.swap(product);
    num_axes = make_orthonormal(q, num_axes, count);
  }

  std::vector<double> axes(num_axes * rows.dim, 0.0);
  for (size_t axis = 0; axis < num_axes; axis++) {
    double* into = axes.data() + axis * rows.dim;
    for (size_t n = 0; n < count; n++) {
      double share = q[axis * count + n];
      for (size_t i = 0; i < rows.dim; i++) into[i] += share * rows.row(n)[i];
    }
  }
  axes.resize(make_orthonormal(axes, num_axes, rows.dim) * rows.dim);
  return axes;
}

}  // namespace rvq::cpu
