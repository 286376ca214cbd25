// Attention's products of matrices on tensor cores: 16-bit floats, and float32 rounded to TensorFloat-32.
//
// A warp has 16 rows of the tile. What it multiplies from the left stays in registers, as the operand `a` of mma.cuh: rows
// of a matrix for the whole kernel, and weights as they come out of a product, since the layout of its result is that of
// an operand. What is multiplied from the right passes through shared memory, whose rows are those of operand `b`.
#pragma once
#include "attention.cuh"
#include "mma.cuh"

// The cells of a thread in a tile that is WIDTH columns wide.
template <int WIDTH>
struct Fragments {
  using Number = float;
  static constexpr int ROWS = 2, COLUMNS = WIDTH / 4, LANES = 4;

  float part[WIDTH / 8][4];

  FN float& at(int i, int j) { return part[j / 2][2 * i + j % 2]; }
  static FN int row(int i) { return int(threadIdx.x) / WARP * 16 + int(threadIdx.x) % WARP / LANES + 8 * i; }
  static FN int column(int j) { return j / 2 * 8 + int(threadIdx.x) % LANES * 2 + j % 2; }
};

// HEAD: the largest size of a head, of which all lies in registers. SUMS: columns of a block's result.
template <class T, int HEAD, int SUMS>
struct TensorCores {
  using Element = T;
  using C = float;
  using Cells = Fragments<TILE>;
  using Sums = Fragments<SUMS>;
  static constexpr int WIDTH = SUMS;
  static constexpr int THREADS = TILE / 16 * WARP;

  static constexpr int V = 16 / sizeof(T);         // elements of an access to memory
  static constexpr int PER_WORD = 4 / sizeof(T);   // elements of a word
  static constexpr int HEAD_WORDS = HEAD / PER_WORD, TILE_WORDS = TILE / PER_WORD;
  static constexpr int STEPS = HEAD_WORDS / MMA_WORDS;
  // Of rows in shared memory. 8 of them lie apart by 4 words, modulo 32, so that they meet in no bank.
  static constexpr int ROW_PITCH = HEAD_WORDS + 4, COLUMN_PITCH = TILE_WORDS + 4;

  struct Shared {
    alignas(16) u32 words[larger(TILE * ROW_PITCH, SUMS * COLUMN_PITCH)];
    float scratch[TILE][TILE + 1];
  };

  // The left factor of products: TILE rows of a matrix.
  struct Rows {
    u32 word[STEPS][4];
    int steps;  // that have columns
  };
  static FN Rows rows(Shared& shared, const Matrix<const T>& x) {
    Rows rows = {{}, (x.columns + MMA_WORDS * PER_WORD - 1) / (MMA_WORDS * PER_WORD)};
    load_rows(shared.words, x, rows.steps);
    __syncthreads();
#pragma unroll
    for (int step = 0; step < STEPS; ++step) {
      if (step >= rows.steps) break;
#pragma unroll
      for (int k = 0; k < 4; ++k) {
        const int word = step * MMA_WORDS + k / 2 * 4 + int(threadIdx.x) % 4;
        rows.word[step][k] = shared.words[Cells::row(k % 2) * ROW_PITCH + word];
      }
    }
    __syncthreads();
    return rows;
  }

  // x · yᵀ, of TILE rows of each over all their columns.
  static FN Cells product(Shared& shared, const Rows& x, const Matrix<const T>& y) {
    Cells cells = {};
    load_rows(shared.words, y, x.steps);
    __syncthreads();
#pragma unroll
    for (int step = 0; step < STEPS; ++step) {
      if (step >= x.steps) break;
#pragma unroll
      for (int n = 0; n < TILE / 8; ++n) {
        multiply_add(cells.part[n], x.word[step], shared.words + 8 * n * ROW_PITCH, ROW_PITCH, step);
      }
    }
    __syncthreads();
    return cells;
  }

  using Weights = Cells;
  static FN Weights keep(Shared&, const Cells& cells) { return cells; }

  // cells *= weights
  static FN void multiply(const Shared&, Cells& cells, const Weights& weights) {
#pragma unroll
    for (int n = 0; n < TILE / 8; ++n) {
#pragma unroll
      for (int k = 0; k < 4; ++k) cells.part[n][k] *= weights.part[n][k];
    }
  }

  // sums += weights · z, of TILE rows of z and SUMS of its columns.
  static FN void add_weighted(Shared& shared, Sums& sums, const Weights& weights, const Matrix<const T>& z) {
    load_columns(shared.words, z);
    __syncthreads();
#pragma unroll
    for (int step = 0; step < TILE_WORDS / MMA_WORDS; ++step) {
      u32 words[4];
      words_of_weights(words, weights, step);
#pragma unroll
      for (int n = 0; n < SUMS / 8; ++n) {
        if (8 * n >= z.columns) break;
        multiply_add(sums.part[n], words, shared.words + 8 * n * COLUMN_PITCH, COLUMN_PITCH, step);
      }
    }
    __syncthreads();
  }

 private:
  static FN u32 word_of(T low, T high) {
    if constexpr (PER_WORD == 2) return low.bits | u32(high.bits) << 16;
    else return tf32(low);
  }

  static FN T element(const Matrix<const T>& x, int row, int column) {
    return row < x.rows && column < x.columns ? x.data[row * x.row + column * x.column] : T{};
  }

  // part += a · bᵀ for 8 rows b in shared memory, `step` steps behind their begin.
  static FN void multiply_add(float (&part)[4], const u32 (&a)[4], const u32* rows, int pitch, int step) {
    const int lane = int(threadIdx.x) % WARP;
    const u32* from = rows + lane / 4 * pitch + step * MMA_WORDS + lane % 4;
    const u32 b[2] = {from[0], from[4]};
    mma<T>(part, a, b);
  }

  // The weights of a step as operand a. Of 16-bit floats two neighbouring cells are a word. Of others a cell is one: the
  // columns of a step come in the order 0, 2, 4, 6, 1, 3, 5, 7.
  static FN void words_of_weights(u32 (&words)[4], const Weights& weights, int step) {
    if constexpr (PER_WORD == 2) {
#pragma unroll
      for (int k = 0; k < 4; ++k) {
        const float(&part)[4] = weights.part[2 * step + k / 2];
        words[k] = word_of(narrow<T>(part[k % 2 * 2]), narrow<T>(part[k % 2 * 2 + 1]));
      }
    } else {
#pragma unroll
      for (int k = 0; k < 4; ++k) words[k] = tf32(weights.part[step][k % 2 * 2 + k / 2]);
    }
  }

  // Where the words that begin with row `row` of a matrix come in the order of words_of_weights.
  static FN int place_of(int row) {
    if constexpr (PER_WORD == 2) return row / 2;
    else return row / 8 * 8 + row % 2 * 4 + row % 8 / 2;
  }

  // V neighbouring elements of a row, 0 outside of the matrix. `is_packed`: they may be read in one.
  static FN Pack<T, V> pack_at(const Matrix<const T>& x, int row, int column, bool is_packed) {
    if (is_packed && row < x.rows && column + V <= x.columns) {
      return *reinterpret_cast<const Pack<T, V>*>(x.data + row * x.row + column);
    }
    Pack<T, V> pack;
#pragma unroll
    for (int v = 0; v < V; ++v) pack.at[v] = element(x, row, column + v);
    return pack;
  }

  static FN bool may_be_packed(const Matrix<const T>& x) {
    return x.column == 1 && x.row % V == 0 && reinterpret_cast<u64>(x.data) % 16 == 0;
  }

  // TILE rows of a matrix, as far as so many steps reach.
  static FN void load_rows(u32* words, const Matrix<const T>& x, int steps) {
    constexpr int PACKS = HEAD / V;
    const bool is_packed = may_be_packed(x);
    const int pack = int(threadIdx.x) % PACKS;
    if (pack >= steps * (MMA_WORDS / 4)) return;
#pragma unroll 2
    for (int row = int(threadIdx.x) / PACKS; row < TILE; row += THREADS / PACKS) {
      const Pack<T, V> from = pack_at(x, row, pack * V, is_packed);
      Pack<u32, 4> to;
#pragma unroll
      for (int k = 0; k < 4; ++k) to.at[k] = word_of(from.at[k * PER_WORD], from.at[(k + 1) * PER_WORD - 1]);
      *reinterpret_cast<Pack<u32, 4>*>(words + row * ROW_PITCH + pack * 4) = to;
    }
  }

  // TILE rows and SUMS columns of a matrix, transposed: neighbouring threads have neighbouring words of a column.
  static FN void load_columns(u32* words, const Matrix<const T>& x) {
    const bool is_packed = may_be_packed(x);
    const int row = int(threadIdx.x) % TILE_WORDS * PER_WORD, place = place_of(row);
#pragma unroll 2
    for (int column = int(threadIdx.x) / TILE_WORDS * V; column < SUMS; column += THREADS / TILE_WORDS * V) {
      const Pack<T, V> low = pack_at(x, row, column, is_packed);
      const Pack<T, V> high = PER_WORD == 2 ? pack_at(x, row + 1, column, is_packed) : low;
#pragma unroll
      for (int v = 0; v < V; ++v) words[(column + v) * COLUMN_PITCH + place] = word_of(low.at[v], high.at[v]);
    }
  }
};
