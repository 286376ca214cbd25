// Products of small matrices in registers, on which the convolutions of device "cpu" are built, and threads' scratch.
//
// A tile is ROWS rows by VECTORS vectors of sums. In each step one element per row meets one row of vectors:
//   sum[i][...] += x[i * X_ROW + step * x_step] * y[step * y_step + ...]
// so what is repeated is read from x as single elements, and what is adjacent from y. The sums of a tile and its row of
// y fit the processor's registers. Here, as in a BLAS, multiplications and additions are fused where the processor can.
#pragma once
#include <stdlib.h>
#if defined(__FMA__) || defined(__AVX512F__)
#include <immintrin.h>
#endif

#include "cpu_threads.h"

namespace cpu {

// --- vectors ---------------------------------------------------------------------------------------------------------

#if defined(__AVX512F__)
constexpr int VECTOR_BYTES = 64, MOST_ROWS = 12;
#elif defined(__AVX__)
constexpr int VECTOR_BYTES = 32, MOST_ROWS = 6;
#elif defined(__aarch64__)
constexpr int VECTOR_BYTES = 16, MOST_ROWS = 12;
#else
constexpr int VECTOR_BYTES = 16, MOST_ROWS = 6;
#endif

template <class T>
struct VectorTypes;
template <>
struct VectorTypes<float> {
  typedef float Vector __attribute__((vector_size(VECTOR_BYTES)));
  typedef float InMemory __attribute__((vector_size(VECTOR_BYTES), aligned(4), may_alias));
  typedef i32 Lanes __attribute__((vector_size(VECTOR_BYTES)));
};
template <>
struct VectorTypes<double> {
  typedef double Vector __attribute__((vector_size(VECTOR_BYTES)));
  typedef double InMemory __attribute__((vector_size(VECTOR_BYTES), aligned(8), may_alias));
  typedef i64 Lanes __attribute__((vector_size(VECTOR_BYTES)));
};
template <class T>
using Vector = typename VectorTypes<T>::Vector;
template <class T>
constexpr i64 WIDTH = VECTOR_BYTES / i64(sizeof(T));  // elements of a vector

template <class T>
inline Vector<T> load(const T* from) {
  return *reinterpret_cast<const typename VectorTypes<T>::InMemory*>(from);
}
template <class T>
inline void store(T* to, Vector<T> value) {
  *reinterpret_cast<typename VectorTypes<T>::InMemory*>(to) = value;
}

// The lanes of a vector before `count`, as a mask.
template <class T>
inline typename VectorTypes<T>::Lanes first_lanes(i64 count) {
  typename VectorTypes<T>::Lanes lane;
  for (int k = 0; k < WIDTH<T>; ++k) lane[k] = k < count ? -1 : 0;
  return lane;
}
// The value where the mask is set, else 0.
template <class T>
inline Vector<T> masked(Vector<T> value, typename VectorTypes<T>::Lanes mask) {
  return Vector<T>(typename VectorTypes<T>::Lanes(value) & mask);
}

// x y + sum
#if defined(__AVX512F__)
inline Vector<float> fused(float x, Vector<float> y, Vector<float> sum) {
  return Vector<float>(_mm512_fmadd_ps(_mm512_set1_ps(x), __m512(y), __m512(sum)));
}
inline Vector<double> fused(double x, Vector<double> y, Vector<double> sum) {
  return Vector<double>(_mm512_fmadd_pd(_mm512_set1_pd(x), __m512d(y), __m512d(sum)));
}
#elif defined(__FMA__)
inline Vector<float> fused(float x, Vector<float> y, Vector<float> sum) {
  return Vector<float>(_mm256_fmadd_ps(_mm256_set1_ps(x), __m256(y), __m256(sum)));
}
inline Vector<double> fused(double x, Vector<double> y, Vector<double> sum) {
  return Vector<double>(_mm256_fmadd_pd(_mm256_set1_pd(x), __m256d(y), __m256d(sum)));
}
#else
template <class T>
inline Vector<T> fused(T x, Vector<T> y, Vector<T> sum) {
  return x * y + sum;
}
#endif

// --- tiles -----------------------------------------------------------------------------------------------------------

template <class T, int ROWS, int VECTORS>
struct Tile {
  Vector<T> sum[ROWS][VECTORS];

  void start(T value) {
    for (int i = 0; i < ROWS; ++i) start_row(i, value);
  }
  void start_row(int i, T value) {
    for (int v = 0; v < VECTORS; ++v) sum[i][v] = Vector<T>{} + value;
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
  template <i64 X_ROW>
  __forceinline__ void add_products(const T* x, i64 x_step, const T* y, i64 y_step, i64 count) {
    for (i64 l = 0; l < count; ++l, x += x_step, y += y_step) {
      Vector<T> row[VECTORS];
#pragma GCC unroll 2
      for (int v = 0; v < VECTORS; ++v) row[v] = load(y + v * WIDTH<T>);
#pragma GCC unroll 12
      for (int i = 0; i < ROWS; ++i) {
#pragma GCC unroll 2
        for (int v = 0; v < VECTORS; ++v) sum[i][v] = fused(x[i * X_ROW], row[v], sum[i][v]);
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

// --- scratch ---------------------------------------------------------------------------------------------------------

// Memory of a thread that is kept for its next call. Each purpose has its own.
class Scratch {
 public:
  Scratch() = default;
  Scratch(const Scratch&) = delete;
  ~Scratch() { free(memory_); }

  template <class T>
  T* of(i64 elements) {
    const i64 bytes = (elements * i64(sizeof(T)) + 63) / 64 * 64;
    if (bytes > capacity_) {
      free(memory_);
      memory_ = aligned_alloc(64, size_t(bytes));
      capacity_ = bytes;
    }
    return static_cast<T*>(memory_);
  }

 private:
  void* memory_ = nullptr;
  i64 capacity_ = 0;
};

}  // namespace cpu
