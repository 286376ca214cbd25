// Vectors of the processor's width on device "cpu", and memory that a thread keeps for what a kernel needs meanwhile.
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
constexpr int VECTOR_BYTES = 64;
#elif defined(__AVX__)
constexpr int VECTOR_BYTES = 32;
#else
constexpr int VECTOR_BYTES = 16;
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

// How many units of so many products each are worth a thread.
inline i64 units_per_thread(i64 products) { return PRODUCTS_PER_THREAD / (products + 1) + 1; }

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
