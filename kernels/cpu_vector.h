// Products of small matrices on device "cpu", in registers: for kernels that make them in the midst of other work, on
// one thread, where a call of BLAS would cost more than it computes.
//
// Here alone, and in BLAS, a multiplication is fused with the addition behind it where the processor can.
#pragma once
#include <stdlib.h>
#if defined(__x86_64__)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

#include "cpu_threads.h"

namespace cpu {

// --- vectors ---------------------------------------------------------------------------------------------------------

#if defined(__AVX512F__)
constexpr int VECTOR_BYTES = 64, TILE_ROWS = 8;
#elif defined(__AVX__)
constexpr int VECTOR_BYTES = 32, TILE_ROWS = 4;
#else
constexpr int VECTOR_BYTES = 16, TILE_ROWS = 4;
#endif

template <class T>
struct VectorOf {
  typedef T type __attribute__((vector_size(VECTOR_BYTES)));
};
template <class T>
using Vector = typename VectorOf<T>::type;

template <class T>
constexpr i64 WIDTH = VECTOR_BYTES / i64(sizeof(T));

// x y + sum.
#if defined(__AVX512F__)
inline Vector<float> fused(Vector<float> x, Vector<float> y, Vector<float> sum) { return _mm512_fmadd_ps(x, y, sum); }
inline Vector<double> fused(Vector<double> x, Vector<double> y, Vector<double> sum) {
  return _mm512_fmadd_pd(x, y, sum);
}
#elif defined(__AVX__) && defined(__FMA__)
inline Vector<float> fused(Vector<float> x, Vector<float> y, Vector<float> sum) { return _mm256_fmadd_ps(x, y, sum); }
inline Vector<double> fused(Vector<double> x, Vector<double> y, Vector<double> sum) {
  return _mm256_fmadd_pd(x, y, sum);
}
#elif defined(__aarch64__)
inline Vector<float> fused(Vector<float> x, Vector<float> y, Vector<float> sum) { return vfmaq_f32(sum, x, y); }
inline Vector<double> fused(Vector<double> x, Vector<double> y, Vector<double> sum) { return vfmaq_f64(sum, x, y); }
#else
template <class V>
V fused(V x, V y, V sum) { return x * y + sum; }
#endif

template <class T>
Vector<T> load(const T* from) {
  Vector<T> result;
  __builtin_memcpy(&result, from, sizeof(result));
  return result;
}
template <class T>
void store(T* to, Vector<T> x) { __builtin_memcpy(to, &x, sizeof(x)); }

constexpr i64 PRODUCTS_PER_THREAD = 1 << 20;  // below twice that, waking a thread costs more than it saves

// --- products --------------------------------------------------------------------------------------------------------

// Whether a product replaces what is there, or is added to it.
enum class Sum { begun, continued };

// A factor whose elements are read one by one, so that any strides will do: element (r, k) at data[r * row + k * inner].
template <class T>
struct Scalars {
  const T* data;
  i64 row, inner;
};

template <class T, int rows, int vectors>
void multiply_tile(T* out, i64 out_step, Sum sum, const Scalars<T>& x, const T* y, i64 y_step, i64 inner) {
  Vector<T> total[rows][vectors] = {};
  if (sum == Sum::continued) {
#pragma GCC unroll 8
    for (int r = 0; r < rows; ++r) {
#pragma GCC unroll 2
      for (int c = 0; c < vectors; ++c) total[r][c] = load(out + r * out_step + c * WIDTH<T>);
    }
  }
  for (i64 k = 0; k < inner; ++k) {
    Vector<T> right[vectors];
#pragma GCC unroll 2
    for (int c = 0; c < vectors; ++c) right[c] = load(y + k * y_step + c * WIDTH<T>);
#pragma GCC unroll 8
    for (int r = 0; r < rows; ++r) {
      const Vector<T> left = x.data[r * x.row + k * x.inner] - Vector<T>{};
#pragma GCC unroll 2
      for (int c = 0; c < vectors; ++c) total[r][c] = fused(left, right[c], total[r][c]);
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < rows; ++r) {
#pragma GCC unroll 2
    for (int c = 0; c < vectors; ++c) store(out + r * out_step + c * WIDTH<T>, total[r][c]);
  }
}

// All rows of some columns, the tallest tiles first.
template <class T, int rows, int vectors>
void multiply_columns(T* out, i64 out_step, Sum sum, Scalars<T> x, const T* y, i64 y_step, i64 count, i64 inner) {
  for (; count >= rows; count -= rows, out += rows * out_step, x.data += rows * x.row) {
    multiply_tile<T, rows, vectors>(out, out_step, sum, x, y, y_step, inner);
  }
  if constexpr (rows > 1) multiply_columns<T, rows / 2, vectors>(out, out_step, sum, x, y, y_step, count, inner);
}

// out = x y, or out += x y: `out` and y have rows of a multiple of WIDTH<T> elements, `steps` apart.
template <class T>
void multiply(T* out, i64 out_step, Sum sum, const Scalars<T>& x, const T* y, i64 y_step, i64 rows, i64 inner,
              i64 columns) {
  i64 c = 0;
  for (; c + 2 * WIDTH<T> <= columns; c += 2 * WIDTH<T>) {
    multiply_columns<T, TILE_ROWS, 2>(out + c, out_step, sum, x, y + c, y_step, rows, inner);
  }
  if (c < columns) multiply_columns<T, TILE_ROWS, 1>(out + c, out_step, sum, x, y + c, y_step, rows, inner);
}

// --- memory ----------------------------------------------------------------------------------------------------------

template <class T>
constexpr i64 padded(i64 count) { return (count + WIDTH<T> - 1) / WIDTH<T> * WIDTH<T>; }

// A thread's memory for what a kernel needs meanwhile: it grows, and is handed out piece by piece from the beginning.
class Scratch {
 public:
  Scratch() = default;
  Scratch(const Scratch&) = delete;
  ~Scratch() { free(memory_); }

  void reserve(i64 bytes) {
    used_ = 0;
    if (bytes <= capacity_) return;
    free(memory_);
    memory_ = static_cast<char*>(aligned_alloc(ALIGNMENT, size_t((bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT)));
    capacity_ = bytes;
  }
  template <class T>
  T* take(i64 count) {
    T* result = reinterpret_cast<T*>(memory_ + used_);
    used_ += padded<T>(count) * i64(sizeof(T));
    return result;
  }

 private:
  static constexpr i64 ALIGNMENT = 64;

  char* memory_ = nullptr;
  i64 capacity_ = 0, used_ = 0;
};

inline thread_local Scratch scratch;

}  // namespace cpu
