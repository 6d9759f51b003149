// The screen without its certificate: pack, score, argmin.

#include "bare_screen.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "aligned_array.h"

namespace rvq::cpu {

// All arrays of lanes are [tile_rows].
struct BareScreen::Scratch {
  Scratch(size_t rows, size_t dim)
      : panel(dim * rows),
        squared_norms(rows),
        best(rows),
        groups(rows),
        pairs((dim + 1) / 2 * rows),
        multipliers(rows),
        squared_errors(rows),
        factors(rows),
        scores(kGroupCodewords * rows) {}

  AlignedArray<float> panel;
  AlignedArray<double> squared_norms;
  AlignedArray<float> best;
  AlignedArray<float> groups;
  AlignedArray<uint32_t> pairs;
  AlignedArray<float> multipliers;
  AlignedArray<float> squared_errors;
  AlignedArray<float> factors;
  AlignedArray<float> scores;
};

void BareScreen::run(BlockFeed& feed) {
  Scratch scratch(kernels_.tile_rows, dim_);
  while (auto block = feed.next()) {
    size_t first_row = *block * kernels_.tile_rows;
    screen_block(first_row, std::min(kernels_.tile_rows, count_ - first_row), scratch);
  }
}

void BareScreen::screen_block(size_t first_row, size_t count, Scratch& scratch) const {
  size_t rows = kernels_.tile_rows;
  kernels_.pack_rows({vectors_ + first_row * dim_, count, dim_, dim_, codebook_.centre(), codebook_.scale(), rows,
                      scratch.panel.data(), scratch.squared_norms.data()});
  std::fill_n(scratch.best.data(), rows, -std::numeric_limits<float>::infinity());
  std::fill_n(scratch.groups.data(), rows, 0.0f);

  if (const IntegerCodebook* integers = codebook_.integers()) {
    for (size_t row = 0; row < rows; row++) {
      double norm = row < count ? std::sqrt(scratch.squared_norms[row]) : 0;
      scratch.multipliers[row] = integers->bound().row_multiplier(norm * (1 + 0x1p-20));
      scratch.factors[row] = 1 / scratch.multipliers[row];
    }
    kernels_.integers->quantise_rows({scratch.panel.data(), dim_, rows, scratch.multipliers.data(),
                                      scratch.pairs.data(), scratch.squared_errors.data()});
    kernels_.integers->best_groups(
        {codebook_.integer_view(), 0, codebook_.num_groups(), scratch.pairs.data(), rows, nullptr,
         scratch.factors.data(), nullptr, nullptr, nullptr, nullptr, scratch.best.data(), scratch.scores.data()},
        scratch.groups.data());
  } else {
    kernels_.measuring->best_groups({codebook_.view(),
                                     0,
                                     codebook_.num_groups(),
                                     scratch.panel.data(),
                                     rows,
                                     {nullptr, nullptr, scratch.best.data(), nullptr, nullptr, nullptr}},
                                    scratch.groups.data());
  }

  for (size_t row = 0; row < count; row++) {
    auto group = static_cast<size_t>(scratch.groups[row]);
    float scores[kGroupCodewords];
    kernels_.score_group(codebook_.view(), group, scratch.panel.data(), rows, row, scores);
    size_t lane = static_cast<size_t>(std::max_element(scores, scores + kGroupCodewords) - scores);
    codes_[first_row + row] = static_cast<int32_t>(codebook_.code(group * kGroupCodewords + lane));
  }
}

}  // namespace rvq::cpu
