// Attention's products of matrices in computing type, for every dtype, head size and layout.
//
// Two factors of a product meet in strips in shared memory, as in matmul.cu; those of 16-bit floats are multiplied as
// float. Weights of attention wait in shared memory between the product that makes them and the one that takes them.
#pragma once
#include "attention.cuh"
#include "strips.cuh"

constexpr int ROW_LANES = 4, COLUMN_LANES = 8;  // how a warp shares the cells of its rows

template <class C>
constexpr int PACK = 16 / sizeof(C);  // neighbouring rows of a thread, and neighbouring columns

// The cells of a thread in a tile that is WIDTH columns wide.
template <class C, int WIDTH>
struct Packs {
  using Number = C;
  static constexpr int ROWS = PACK<C>, COLUMNS = WIDTH / COLUMN_LANES, LANES = COLUMN_LANES;
  static_assert(COLUMNS % PACK<C> == 0, "the columns of a thread are packs");

  C cell[ROWS][COLUMNS];

  FN C& at(int i, int j) { return cell[i][j]; }
  static FN int row(int i) {
    const int warp = int(threadIdx.x) / WARP, lane = int(threadIdx.x) % WARP;
    return (warp * ROW_LANES + lane / COLUMN_LANES) * ROWS + i;
  }
  static FN int column(int j) {
    return (j / PACK<C> * COLUMN_LANES + int(threadIdx.x) % COLUMN_LANES) * PACK<C> + j % PACK<C>;
  }
};

template <class T, int SUMS>
struct Strips {
  using Element = T;
  using C = Compute<T>;
  using Cells = Packs<C, TILE>;
  using Sums = Packs<C, SUMS>;
  static constexpr int WIDTH = SUMS;  // columns of a block's result
  static constexpr int THREADS = TILE / (ROW_LANES * PACK<C>) * WARP;
  static constexpr int STEP = 64 / sizeof(C);     // terms of the products in shared memory at a time
  static constexpr int PITCH = TILE + PACK<C>;    // what is read as a pack lies at a multiple of it
  static constexpr int Y_PITCH = larger(TILE, SUMS) + PACK<C>;

  // Strips of both factors, and the weights by column of the tile, whose rows serve as those of a strip.
  struct Shared {
    alignas(16) C x[STEP][PITCH];
    alignas(16) C y[STEP][Y_PITCH];
    alignas(16) C scratch[TILE][PITCH];
  };

  // The left factor of products: TILE rows of a matrix, which are read again for each.
  using Rows = Matrix<const T>;
  static FN Rows rows(Shared&, const Matrix<const T>& x) { return x; }

  // x · yᵀ, of TILE rows of each over all their columns. Ends with a barrier, and begins with what another thread has
  // left in shared memory in view: also where there are no columns.
  static FN Cells product(Shared& shared, const Rows& x, const Matrix<const T>& y) {
    Cells cells = {};
    int first = 0;
    do {
      const int left = x.columns - first;
      load_strip<THREADS, TILE>(shared.x, x.data + first * x.column, x.column, x.row, left, x.rows);
      load_strip<THREADS, TILE>(shared.y, y.data + first * y.column, y.column, y.row, left, y.rows);
      __syncthreads();
      add_products(cells, shared.x, shared.y);
      __syncthreads();
      first += STEP;
    } while (first < x.columns);
    return cells;
  }

  // Weights lie in shared memory.
  struct Weights {};
  static FN Weights keep(Shared& shared, const Cells& cells) {
#pragma unroll
    for (int j = 0; j < Cells::COLUMNS; ++j) {
      Pack<C, PACK<C>> pack;
#pragma unroll
      for (int i = 0; i < Cells::ROWS; ++i) pack.at[i] = cells.cell[i][j];
      *reinterpret_cast<Pack<C, PACK<C>>*>(&shared.scratch[Cells::column(j)][Cells::row(0)]) = pack;
    }
    return {};
  }

  // cells *= weights
  static FN void multiply(const Shared& shared, Cells& cells, const Weights&) {
    each_cell(cells, [&](C& cell, int row, int column) { cell *= shared.scratch[column][row]; });
  }

  // sums += weights · z, of TILE rows of z and SUMS of its columns.
  static FN void add_weighted(Shared& shared, Sums& sums, const Weights&, const Matrix<const T>& z) {
    const int terms = min(z.rows, TILE);
    for (int first = 0; first < terms; first += STEP) {
      load_strip<THREADS, SUMS>(shared.y, z.data + first * z.row, z.row, z.column, z.rows - first, z.columns);
      __syncthreads();
      add_products(sums, shared.scratch + first, shared.y);
      __syncthreads();
    }
  }

 private:
  static FN Pack<C, PACK<C>> pack_at(const C& first) { return *reinterpret_cast<const Pack<C, PACK<C>>*>(&first); }

  // sums += x · yᵀ over STEP terms, from strips that hold a term in each row.
  template <class Result>
  static FN void add_products(Result& sums, const C (*x)[PITCH], const C (*y)[Y_PITCH]) {
#pragma unroll 4
    for (int term = 0; term < STEP; ++term) {
      const auto of_x = pack_at(x[term][Result::row(0)]);
#pragma unroll
      for (int first = 0; first < Result::COLUMNS; first += PACK<C>) {
        const auto of_y = pack_at(y[term][Result::column(first)]);
#pragma unroll
        for (int i = 0; i < Result::ROWS; ++i) {
#pragma unroll
          for (int j = 0; j < PACK<C>; ++j) sums.cell[i][first + j] += of_x.at[i] * of_y.at[j];
        }
      }
    }
  }
};
