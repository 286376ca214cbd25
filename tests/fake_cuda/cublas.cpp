// A stand-in for cuBLAS: the matrix products that the CUDA backend asks for. Layouts, operations, types and strides are
// those of cublasGemmStridedBatchedEx; a combination that it refuses is refused here too.
#include "gemm.h"

extern "C" {

int cublasCreate_v2(void** handle) {
  *handle = new int(0);
  return blas_success;
}
int cublasDestroy_v2(void* handle) {
  delete static_cast<int*>(handle);
  return blas_success;
}
int cublasSetStream_v2(void*, void*) { return blas_success; }

int cublasGemmStridedBatchedEx(void*, int op_a, int op_b, int m, int n, int k, const void* alpha, const void* a,
                               int type_a, int lda, long long stride_a, const void* b, int type_b, int ldb,
                               long long stride_b, const void* beta, void* c, int type_c, int ldc, long long stride_c,
                               int count, int compute, int) {
  if (type_a != type_b || type_a != type_c) return blas_not_supported;
  const Product asked = {op_a != 0, op_b != 0, m, n, k, alpha, a, lda, stride_a, b, ldb, stride_b, beta, c, c, ldc,
                         stride_c, count};
  return multiply(asked, type_a, compute);
}

int cublasGemmEx(void* handle, int op_a, int op_b, int m, int n, int k, const void* alpha, const void* a, int type_a,
                 int lda, const void* b, int type_b, int ldb, const void* beta, void* c, int type_c, int ldc,
                 int compute, int algorithm) {
  return cublasGemmStridedBatchedEx(handle, op_a, op_b, m, n, k, alpha, a, type_a, lda, 0, b, type_b, ldb, 0, beta, c,
                                    type_c, ldc, 0, 1, compute, algorithm);
}

}  // extern "C"
