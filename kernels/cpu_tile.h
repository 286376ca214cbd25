// Tiles of sums that a kernel of device "cpu" holds in registers while it adds products, and products of small matrices
// made of them: for kernels that multiply in the midst of other work, on one thread, where a call of BLAS would cost
// more than it computes.
//
// A tile is ROWS rows by VECTORS vectors. In each step one element per row meets one row of vectors:
//   sum[i][...] += x[i * x_row + step * x_step] * y[step * y_step + ...]
// so what is repeated is read from x as single elements, and what is adjacent from y.
#pragma once
#include "cpu_vector.h"

namespace cpu {

#if defined(__AVX512F__) || defined(__aarch64__)
constexpr int MOST_ROWS = 12;  // of two vectors each, beside a row of y: what the registers hold
#else
constexpr int MOST_ROWS = 6;
#endif

// A mask of the lanes before `count`.
template <class T>
struct FirstLanes {
  using Lane = decltype(Vector<T>{} < Vector<T>{});
  Lane mask;

  explicit FirstLanes(i64 count) {
    for (int k = 0; k < WIDTH<T>; ++k) mask[k] = k < count ? -1 : 0;
  }
  // The value in those lanes, and zeros.
  Vector<T> of(Vector<T> value) const { return Vector<T>(Lane(value) & mask); }
};

template <class T>
Vector<T> repeated(T value) { return value - Vector<T>{}; }

// --- tiles -----------------------------------------------------------------------------------------------------------

template <class T, int ROWS, int VECTORS>
struct Tile {
  Vector<T> sum[ROWS][VECTORS];

  void start(T value) {
    for (int i = 0; i < ROWS; ++i) start_row(i, value);
  }
  void start_row(int i, T value) {
    for (int v = 0; v < VECTORS; ++v) sum[i][v] = repeated(value);
  }
  void read(const T* from, i64 step) {
#pragma GCC unroll 12
    for (int i = 0; i < ROWS; ++i) {
#pragma GCC unroll 2
      for (int v = 0; v < VECTORS; ++v) sum[i][v] = load(from + i * step + v * WIDTH<T>);
    }
  }
  void write(T* to, i64 step) const {
#pragma GCC unroll 12
    for (int i = 0; i < ROWS; ++i) {
#pragma GCC unroll 2
      for (int v = 0; v < VECTORS; ++v) store(to + i * step + v * WIDTH<T>, sum[i][v]);
    }
  }
  __forceinline__ void add_products(const T* x, i64 x_row, i64 x_step, const T* y, i64 y_step, i64 count) {
    for (i64 l = 0; l < count; ++l, x += x_step, y += y_step) {
      Vector<T> row[VECTORS];
#pragma GCC unroll 2
      for (int v = 0; v < VECTORS; ++v) row[v] = load(y + v * WIDTH<T>);
#pragma GCC unroll 12
      for (int i = 0; i < ROWS; ++i) {
#pragma GCC unroll 2
        for (int v = 0; v < VECTORS; ++v) sum[i][v] = fused(repeated(x[i * x_row]), row[v], sum[i][v]);
      }
    }
  }
};

template <int rows>
struct TileRows {
  static constexpr int COUNT = rows;
};

// How many of `left` rows the next tile takes.
inline i64 rows_of_tile(i64 left) {
  const i64 fitting = left < MOST_ROWS ? left : MOST_ROWS;
  return fitting == 12 ? 12 : fitting >= 8 ? 8 : fitting >= 6 ? 6 : fitting >= 4 ? 4 : fitting >= 2 ? 2 : 1;
}

// body(first row, TileRows<number>) for tiles that together have `rows` rows.
template <class Body>
inline void for_tiles(i64 rows, const Body& body) {
  for (i64 first = 0, count; first < rows; first += count) {
    count = rows_of_tile(rows - first);
    switch (count) {
      case 12:
        if constexpr (MOST_ROWS == 12) body(first, TileRows<12>{});
        break;
      case 8:
        if constexpr (MOST_ROWS == 12) body(first, TileRows<8>{});
        break;
      case 6: body(first, TileRows<6>{}); break;
      case 4: body(first, TileRows<4>{}); break;
      case 2: body(first, TileRows<2>{}); break;
      default: body(first, TileRows<1>{});
    }
  }
}

// A matrix in the order in which tiles of its rows read it: tile by tile, step by step, the tile's rows side by side.
template <class T, class Value>
void pack_rows(T* to, i64 rows, i64 count, const Value& value) {
  for (i64 first = 0, taken; first < rows; first += taken) {
    taken = rows_of_tile(rows - first);
    for (i64 l = 0; l < count; ++l) {
      for (i64 i = 0; i < taken; ++i) *to++ = value(first + i, l);
    }
  }
}

// --- whole products --------------------------------------------------------------------------------------------------

// Whether a product replaces what is there, or is added to it.
enum class Sum { begun, continued };

// A factor whose elements are read one by one, so that any strides will do: element (r, k) at data[r * row + k * inner].
template <class T>
struct Scalars {
  const T* data;
  i64 row, inner;
};

// All rows of some columns.
template <class T, int VECTORS>
void multiply_columns(T* out, i64 out_step, Sum sum, const Scalars<T>& x, const T* y, i64 y_step, i64 rows, i64 inner) {
  for_tiles(rows, [&](i64 first, auto count) {
    Tile<T, count.COUNT, VECTORS> tile;
    T* const to = out + first * out_step;
    if (sum == Sum::begun) tile.start(T(0));
    else tile.read(to, out_step);
    tile.add_products(x.data + first * x.row, x.row, x.inner, y, y_step, inner);
    tile.write(to, out_step);
  });
}

// out = x y, or out += x y: `out` and y have rows of a multiple of WIDTH<T> elements, `steps` apart.
template <class T>
void multiply(T* out, i64 out_step, Sum sum, const Scalars<T>& x, const T* y, i64 y_step, i64 rows, i64 inner,
              i64 columns) {
  i64 c = 0;
  for (; c + 2 * WIDTH<T> <= columns; c += 2 * WIDTH<T>) {
    multiply_columns<T, 2>(out + c, out_step, sum, x, y + c, y_step, rows, inner);
  }
  if (c < columns) multiply_columns<T, 1>(out + c, out_step, sum, x, y + c, y_step, rows, inner);
}

}  // namespace cpu
