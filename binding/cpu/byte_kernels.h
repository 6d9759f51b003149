// The 8-bit screen's inner loops, written once in GCC/Clang vector types.
//
// Included by kernels_<level>.cpp after integer_kernels.h, with the same rules, and after it has defined besides:
//   kLargestByte               L of byte_bound.h
//   kByteBlockWords            words of four elements after which sums must be widened; 0 where they are of 32 bits
//   kByteCodewords             codewords of a tile, a divisor of kGroupCodewords
//   kFewestByteDims, kByteCosts  see ByteKernels
//   ByteRows<kRegisters>       the kRegisters registers of rows of one word, loaded as the processor likes best:
//                              constructed from their address; add(sums, y) adds the products with the word at y
//   widen(sums)                the 32-bit sums from those of a block; unused where kByteBlockWords is 0

static void measure_bytes(const MeasureBytes& job) {
  // Without blocks halves do not matter: one sum over all elements is as good as any.
  size_t block = kByteBlockWords == 0 ? job.dim : 4 * kByteBlockWords;
  for (size_t lane = 0; lane < job.panel_stride; lane += kLanes) {
    Floats largest = {};
    Floats half_square = {};
    const float* x = job.panel + lane;
    for (size_t first = 0; first < job.dim; first += block) {
      size_t end = job.dim - first < block ? job.dim : first + block;
      Floats squares[2] = {};
      for (size_t i = first; i < end; i++) {
        Floats element = load<Floats>(x);
        x += job.panel_stride;
        largest = larger(largest, larger(element, -element));
        if (kByteBlockWords > 0) squares[i / 2 % 2] = fused(element, element, squares[i / 2 % 2]);
      }
      half_square = larger(half_square, larger(squares[0], squares[1]));
    }
    store(job.largest + lane, largest);
    store(job.half_squares + lane, half_square);
  }
}

// Sums modulo 2^32: lanes that are not screened may hold anything.
typedef uint32_t Words __attribute__((vector_size(sizeof(Floats))));

static void quantise_bytes(const QuantiseBytes& job) {
  size_t words = (job.dim + 3) / 4;
  size_t block_words = kByteBlockWords == 0 ? words : kByteBlockWords;
  for (size_t lane = 0; lane < job.panel_stride; lane += kLanes) {
    Floats multiplier = load<Floats>(job.multipliers + lane);
    Floats squared_error = {};
    const float* x = job.panel + lane;
    uint32_t* starts = job.row_starts + lane;
    Words sums[2] = {};
    for (size_t word = 0; word < words; word++) {
      Ints bytes[4] = {};
#pragma GCC unroll 4
      for (size_t j = 0; j < 4; j++) {
        if (4 * word + j == job.dim) break;
        Floats element = load<Floats>(x);
        x += job.panel_stride;
        bytes[j] = to_integers(element * multiplier);
        Floats error = fused(element, multiplier, -__builtin_convertvector(bytes[j], Floats));
        squared_error = fused(error, error, squared_error);
      }
      store(job.words + word * job.panel_stride + lane,
            (bytes[0] & 0xff) | ((bytes[1] & 0xff) << 8) | ((bytes[2] & 0xff) << 16) | (bytes[3] << 24));
      sums[0] += (Words)bytes[0] + (Words)bytes[1];
      sums[1] += (Words)bytes[2] + (Words)bytes[3];
      if (word + 1 < words && (word + 1) % block_words != 0) continue;
      sums[0] *= (uint32_t)-kLargestByte;
      sums[1] *= (uint32_t)-kLargestByte;
      store(starts, kByteBlockWords == 0 ? sums[0] + sums[1] : (sums[0] & 0xffff) | (sums[1] << 16));
      starts += job.panel_stride;
      sums[0] = sums[1] = Words{};
    }
    store(job.squared_errors + lane, squared_error);
  }
}

// sums[c][r] = starts[r] + the products of `words` words of the codewords from y on and the rows in register r.
template <int kRegisters>
static inline void add_words(const uint32_t* x, const uint32_t* y, size_t words, const uint32_t* starts,
                             Ints (&sums)[kByteCodewords][kRegisters]) {
#pragma GCC unroll 4
  for (int r = 0; r < kRegisters; r++) {
    Ints start = load<Ints>(starts + r * kLanes);
#pragma GCC unroll 8
    for (size_t c = 0; c < kByteCodewords; c++) sums[c][r] = start;
  }
#pragma GCC unroll 1
  for (size_t i = words; i > 0; i--) {
    ByteRows<kRegisters> rows(x);
#pragma GCC unroll 8
    for (size_t c = 0; c < kByteCodewords; c++) rows.add(sums[c], y + c);
    x += kRegisters * kLanes;
    y += kGroupCodewords;
  }
}

template <int kRegisters>
static inline void dot_bytes(const IntegerTile& job, size_t group, size_t first,
                             Ints (&sums)[kByteCodewords][kRegisters]) {
  size_t words = job.codewords.words;
  const uint32_t* y = job.codewords.panels + group * words * kGroupCodewords + first;
  if constexpr (kByteBlockWords == 0) {
    add_words<kRegisters>(job.panel, y, words, job.row_starts, sums);
  } else {
    // The 32-bit sums need no registers: they are touched once a block.
    const uint32_t* x = job.panel;
    const uint32_t* starts = job.row_starts;
    while (words > 0) {
      size_t count = words < kByteBlockWords ? words : kByteBlockWords;
      Ints block[kByteCodewords][kRegisters];
      add_words<kRegisters>(x, y, count, starts, block);
#pragma GCC unroll 8
      for (size_t c = 0; c < kByteCodewords; c++) {
#pragma GCC unroll 4
        for (int r = 0; r < kRegisters; r++) sums[c][r] += widen(block[c][r]);
      }
      x += count * kRegisters * kLanes;
      y += count * kGroupCodewords;
      starts += kRegisters * kLanes;
      words -= count;
    }
  }
}

template <int kRegisters>
static void screen_byte_registers(const IntegerTile& job) {
  const IntegerCodewords& codewords = job.codewords;
  float* upper = job.upper;
  float* scores = job.scores;
  for (size_t group = job.first_group; group < job.last_group; group++) {
    Floats best[kRegisters];
    for (size_t first = 0; first < kGroupCodewords; first += kByteCodewords) {
      Ints sums[kByteCodewords][kRegisters] = {};
      dot_bytes<kRegisters>(job, group, first, sums);
#pragma GCC unroll 8
      for (size_t c = 0; c < kByteCodewords; c++) {
        size_t position = group * kGroupCodewords + first + c;
        Floats start = broadcast(codewords.starts[position]);
        Floats factor = broadcast(codewords.factors[position]);
#pragma GCC unroll 4
        for (int r = 0; r < kRegisters; r++) {
          Floats score = fused(__builtin_convertvector(sums[c][r], Floats),
                               load<Floats>(job.row_factors + r * kLanes) * factor, start);
          store(scores, score);
          scores += kLanes;
          best[r] = first + c == 0 ? score : larger(best[r], score);
        }
      }
    }
    note_integer_group<kRegisters>(job, group, best, upper);
    upper += kRegisters * kLanes;
  }
}

static void screen_byte_tile(const IntegerTile& job) {
  switch (job.panel_stride / kLanes) {
    case 1:
      return screen_byte_registers<1>(job);
    case 2:
      if constexpr (kTileRegisters >= 2) return screen_byte_registers<2>(job);
      break;
    case 3:
      if constexpr (kTileRegisters >= 3) return screen_byte_registers<3>(job);
      break;
    case 4:
      if constexpr (kTileRegisters >= 4) return screen_byte_registers<4>(job);
      break;
  }
}
