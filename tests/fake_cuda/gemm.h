// Products of column-major matrices by plain loops, and how cuBLAS and cuBLASLt number types: for both stand-ins.
#pragma once

#include <cstdint>
#include <cstring>

namespace {

enum Type { f32 = 0, f64 = 1, f16 = 2, bf16 = 14 };
enum Compute { compute_32f = 68, compute_64f = 70, compute_32f_fast_tf32 = 77 };
enum BlasStatus { blas_success = 0, blas_invalid_value = 7, blas_not_supported = 15 };

struct Half {
  _Float16 value;
  operator float() const { return float(value); }
  Half& operator=(float x) {
    value = _Float16(x);
    return *this;
  }
};

struct Brain {
  uint16_t bits;
  operator float() const {
    const uint32_t wide = uint32_t(bits) << 16;
    float x;
    memcpy(&x, &wide, sizeof x);
    return x;
  }
  Brain& operator=(float x) {
    uint32_t wide;
    memcpy(&wide, &x, sizeof wide);
    bits = x != x ? 0x7fc0 : uint16_t((wide + 0x7fff + ((wide >> 16) & 1)) >> 16);
    return *this;
  }
};

// D = alpha op(A) op(B) + beta C + bias for column-major matrices: row i and column j lie at [i + j * leading]. C and D
// are laid out alike; the bias, if there is one, has an element per row.
struct Product {
  bool transpose_a, transpose_b;
  int64_t m, n, k;
  const void *alpha, *a;
  int64_t lda, stride_a;
  const void* b;
  int64_t ldb, stride_b;
  const void *beta, *c;
  void* d;
  int64_t ldc, stride_c;
  int64_t count;  // matrices, `stride` elements apart
  const void* bias = nullptr;
};

template <class T, class Wide>
void multiply_one(const Product& p, const T* a, const T* b, const T* c, T* d) {
  const Wide alpha = *static_cast<const Wide*>(p.alpha), beta = *static_cast<const Wide*>(p.beta);
  for (int64_t j = 0; j < p.n; ++j) {
    for (int64_t i = 0; i < p.m; ++i) {
      Wide sum = 0;
      for (int64_t l = 0; l < p.k; ++l) {
        const Wide left = p.transpose_a ? a[l + i * p.lda] : a[i + l * p.lda];
        const Wide right = p.transpose_b ? b[j + l * p.ldb] : b[l + j * p.ldb];
        sum += left * right;
      }
      Wide out = alpha * sum;
      if (beta != 0) out += beta * Wide(c[i + j * p.ldc]);  // with beta 0, C may hold anything
      if (p.bias != nullptr) out += Wide(static_cast<const T*>(p.bias)[i]);
      d[i + j * p.ldc] = out;
    }
  }
}

template <class T, class Wide>
int multiply_all(const Product& p) {
  for (int64_t i = 0; i < p.count; ++i) {
    multiply_one<T, Wide>(p, static_cast<const T*>(p.a) + i * p.stride_a, static_cast<const T*>(p.b) + i * p.stride_b,
                          static_cast<const T*>(p.c) + i * p.stride_c, static_cast<T*>(p.d) + i * p.stride_c);
  }
  return blas_success;
}

int64_t at_least_one(int64_t rows) { return rows > 1 ? rows : 1; }

// Whether the library multiplies these types, and columns do not overlap.
int check(const Product& p, int type, int compute) {
  const bool wide = compute == compute_64f, tf32 = compute == compute_32f_fast_tf32;
  if ((type == f64) != wide || (tf32 && type != f32) || (!wide && !tf32 && compute != compute_32f)) {
    return blas_not_supported;
  }
  const int64_t rows_of_a = p.transpose_a ? p.k : p.m, rows_of_b = p.transpose_b ? p.n : p.k;
  const bool fits =
      p.lda >= at_least_one(rows_of_a) && p.ldb >= at_least_one(rows_of_b) && p.ldc >= at_least_one(p.m);
  return fits ? blas_success : blas_invalid_value;
}

int multiply(const Product& p, int type, int compute) {
  if (const int status = check(p, type, compute)) return status;
  switch (type) {
    case f32: return multiply_all<float, float>(p);
    case f64: return multiply_all<double, double>(p);
    case f16: return multiply_all<Half, float>(p);
    case bf16: return multiply_all<Brain, float>(p);
    default: return blas_not_supported;
  }
}

}  // namespace
