// A stand-in for cuBLAS: the matrix products that the CUDA backend asks for, by plain loops over column-major matrices.
// Layouts, operations, types and strides are those of cublasGemmStridedBatchedEx; a combination that it refuses is
// refused here too.
#include <cstdint>
#include <cstring>

namespace {

enum Type { f32 = 0, f64 = 1, f16 = 2, bf16 = 14 };
enum Compute { compute_32f = 68, compute_64f = 70, compute_32f_fast_tf32 = 77 };
enum Status { success = 0, invalid_value = 7, not_supported = 15 };

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

// C = alpha op(A) op(B) + beta C for one matrix each; row i and column j of a matrix lie at [i + j * leading].
template <class T, class Wide>
void multiply(bool transpose_a, bool transpose_b, int m, int n, int k, Wide alpha, const T* a, int lda, const T* b,
              int ldb, Wide beta, T* c, int ldc) {
  for (int j = 0; j < n; ++j) {
    for (int i = 0; i < m; ++i) {
      Wide sum = 0;
      for (int p = 0; p < k; ++p) {
        const Wide left = transpose_a ? a[p + int64_t(i) * lda] : a[i + int64_t(p) * lda];
        const Wide right = transpose_b ? b[j + int64_t(p) * ldb] : b[p + int64_t(j) * ldb];
        sum += left * right;
      }
      T& out = c[i + int64_t(j) * ldc];
      const Wide before = beta == 0 ? Wide(0) : beta * Wide(out);  // with beta 0, C may hold anything
      out = alpha * sum + before;
    }
  }
}

template <class T, class Wide>
int multiply_all(int transpose_a, int transpose_b, int m, int n, int k, const void* alpha, const void* a, int lda,
                 long long stride_a, const void* b, int ldb, long long stride_b, const void* beta, void* c, int ldc,
                 long long stride_c, int count) {
  const int rows_of_a = transpose_a ? k : m, rows_of_b = transpose_b ? n : k;
  if (lda < (rows_of_a > 1 ? rows_of_a : 1) || ldb < (rows_of_b > 1 ? rows_of_b : 1) || ldc < (m > 1 ? m : 1)) {
    return invalid_value;
  }
  for (int i = 0; i < count; ++i) {
    multiply<T, Wide>(transpose_a, transpose_b, m, n, k, *static_cast<const Wide*>(alpha),
                      static_cast<const T*>(a) + i * stride_a, lda, static_cast<const T*>(b) + i * stride_b, ldb,
                      *static_cast<const Wide*>(beta), static_cast<T*>(c) + i * stride_c, ldc);
  }
  return success;
}

}  // namespace

extern "C" {

int cublasCreate_v2(void** handle) {
  *handle = new int(0);
  return success;
}
int cublasDestroy_v2(void* handle) {
  delete static_cast<int*>(handle);
  return success;
}
int cublasSetStream_v2(void*, void*) { return success; }

int cublasGemmStridedBatchedEx(void*, int op_a, int op_b, int m, int n, int k, const void* alpha, const void* a, int type_a,
                               int lda, long long stride_a, const void* b, int type_b, int ldb, long long stride_b,
                               const void* beta, void* c, int type_c, int ldc, long long stride_c, int count,
                               int compute, int) {
  if (type_a != type_b || type_a != type_c) return not_supported;
  const bool wide = compute == compute_64f, tf32 = compute == compute_32f_fast_tf32;
  if ((type_a == f64) != wide || (tf32 && type_a != f32) || (!wide && !tf32 && compute != compute_32f)) {
    return not_supported;
  }
  const auto with = [&](auto function) {
    return function(op_a, op_b, m, n, k, alpha, a, lda, stride_a, b, ldb, stride_b, beta, c, ldc, stride_c, count);
  };
  switch (type_a) {
    case f32: return with(multiply_all<float, float>);
    case f64: return with(multiply_all<double, double>);
    case f16: return with(multiply_all<Half, float>);
    case bf16: return with(multiply_all<Brain, float>);
    default: return not_supported;
  }
}

int cublasGemmEx(void* handle, int op_a, int op_b, int m, int n, int k, const void* alpha, const void* a, int type_a, int lda,
                 const void* b, int type_b, int ldb, const void* beta, void* c, int type_c, int ldc, int compute,
                 int algorithm) {
  return cublasGemmStridedBatchedEx(handle, op_a, op_b, m, n, k, alpha, a, type_a, lda, 0, b, type_b, ldb, 0, beta, c,
                                    type_c, ldc, 0, 1, compute, algorithm);
}

}  // extern "C"
