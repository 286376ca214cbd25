// A stand-in for cuBLASLt: products of matrices, also with a bias, noted where the stream is capturing.
//
// Strict where the library is: a descriptor holds what was set and no more; an algorithm is for the alignment that was
// promised when it was chosen; the workspace is aligned, and as large as the algorithm wants.
#include "driver.h"
#include "gemm.h"

#include <cstddef>

namespace {

enum DescAttribute { transpose_a = 3, transpose_b = 4, epilogue = 7, bias_pointer = 8 };
enum LayoutAttribute { batch_count = 5, batch_stride = 6 };
enum PreferenceAttribute { max_workspace = 1, alignment_a = 5, alignment_b = 6, alignment_c = 7, alignment_d = 8 };
enum Epilogue { plain = 1, with_bias = 4 };

constexpr size_t workspace_wanted = 1 << 16;
constexpr uintptr_t bias_alignment = 16, workspace_alignment = 256;

struct Desc {
  int compute, scale;
  int32_t transpose_a = 0, transpose_b = 0, epilogue = plain;
  const void* bias = nullptr;
};

struct Layout {
  int type;
  uint64_t rows, columns;
  int64_t leading;
  int32_t count = 1;
  int64_t stride = 0;
};

struct Preference {
  uint64_t workspace = 0;
  uint32_t alignment[4] = {256, 256, 256, 256};  // of A, B, C, D, as the library assumes
};

struct Algorithm {  // 64 bytes, opaque to the caller
  uint32_t alignment[4];
  uint64_t workspace;
  uint64_t unused[5];
};

struct Heuristic {
  Algorithm algorithm;
  size_t workspace;
  int status;
  float waves;
  int reserved[4];
};

bool refuse_all = false;
unsigned long long products = 0;
long long descriptions = 0;  // descriptors, layouts and preferences that there are

template <class T>
int set(T& field, const void* value, size_t size) {
  if (size != sizeof field) return blas_invalid_value;
  memcpy(&field, value, size);
  return blas_success;
}

template <class T>
int create(void** handle, T* made) {
  ++descriptions;
  *handle = made;
  return blas_success;
}

template <class T>
int destroy(void* handle) {
  --descriptions;
  delete static_cast<T*>(handle);
  return blas_success;
}

uintptr_t item_size(int type) { return type == f64 ? 8 : type == f32 ? 4 : 2; }

bool is_aligned(const void* address, uintptr_t alignment) { return uintptr_t(address) % alignment == 0; }

Product product(const Desc& desc, const void* alpha, const void* a, const Layout& of_a, const void* b,
                const Layout& of_b, const void* beta, const void* c, void* d, const Layout& of_d) {
  const int64_t k = desc.transpose_a ? of_a.rows : of_a.columns;
  return {desc.transpose_a != 0, desc.transpose_b != 0, int64_t(of_d.rows), int64_t(of_d.columns), k, alpha, a,
          of_a.leading, of_a.stride, b, of_b.leading, of_b.stride, beta, c, d, of_d.leading, of_d.stride, of_d.count,
          desc.epilogue == with_bias ? desc.bias : nullptr};
}

// Whether op(A), op(B) and D go together.
bool fit(const Desc& desc, const Layout& a, const Layout& b, const Layout& d) {
  const uint64_t rows = desc.transpose_a ? a.columns : a.rows, depth = desc.transpose_a ? a.rows : a.columns;
  const uint64_t columns = desc.transpose_b ? b.rows : b.columns, depth_of_b = desc.transpose_b ? b.columns : b.rows;
  return rows == d.rows && columns == d.columns && depth == depth_of_b && a.count == d.count && b.count == d.count &&
         a.type == b.type && a.type == d.type;
}

}  // namespace

extern "C" {

// --- for the tests ---------------------------------------------------------------------------------------------------

void fake_refuse_products(int wanted) { refuse_all = wanted != 0; }

unsigned long long fake_products() { return products; }

long long fake_descriptions() { return descriptions; }

// --- the library -----------------------------------------------------------------------------------------------------

int cublasLtCreate(void** handle) {
  if (unsafe_call()) return blas_not_supported;
  *handle = new int(0);
  return blas_success;
}

int cublasLtMatmulDescCreate(void** desc, int compute, int scale) {
  return create(desc, new Desc{compute, scale});
}
int cublasLtMatmulDescDestroy(void* desc) { return destroy<Desc>(desc); }
int cublasLtMatmulDescSetAttribute(void* handle, int attribute, const void* value, size_t size) {
  Desc& desc = *static_cast<Desc*>(handle);
  switch (attribute) {
    case transpose_a: return set(desc.transpose_a, value, size);
    case transpose_b: return set(desc.transpose_b, value, size);
    case epilogue:
      if (const int status = set(desc.epilogue, value, size)) return status;
      return desc.epilogue == plain || desc.epilogue == with_bias ? blas_success : blas_invalid_value;
    case bias_pointer: return set(desc.bias, value, size);
    default: return blas_invalid_value;
  }
}

int cublasLtMatrixLayoutCreate(void** layout, int type, uint64_t rows, uint64_t columns, int64_t leading) {
  return create(layout, new Layout{type, rows, columns, leading});
}
int cublasLtMatrixLayoutDestroy(void* layout) { return destroy<Layout>(layout); }
int cublasLtMatrixLayoutSetAttribute(void* handle, int attribute, const void* value, size_t size) {
  Layout& layout = *static_cast<Layout*>(handle);
  switch (attribute) {
    case batch_count: return set(layout.count, value, size);
    case batch_stride: return set(layout.stride, value, size);
    default: return blas_invalid_value;
  }
}

int cublasLtMatmulPreferenceCreate(void** preference) { return create(preference, new Preference()); }
int cublasLtMatmulPreferenceDestroy(void* preference) { return destroy<Preference>(preference); }
int cublasLtMatmulPreferenceSetAttribute(void* handle, int attribute, const void* value, size_t size) {
  Preference& preference = *static_cast<Preference*>(handle);
  if (attribute == max_workspace) return set(preference.workspace, value, size);
  if (attribute < alignment_a || attribute > alignment_d) return blas_invalid_value;
  return set(preference.alignment[attribute - alignment_a], value, size);
}

int cublasLtMatmulAlgoGetHeuristic(void*, const Desc* desc, const Layout* a, const Layout* b, const Layout* c,
                                   const Layout* d, const Preference* preference, int wanted, Heuristic* results,
                                   int* found) {
  *found = 0;
  if (wanted < 1 || c->rows != d->rows || c->columns != d->columns) return blas_invalid_value;
  if (!fit(*desc, *a, *b, *d)) return blas_invalid_value;
  const Product asked = product(*desc, nullptr, nullptr, *a, nullptr, *b, nullptr, nullptr, nullptr, *d);
  if (const int status = check(asked, d->type, desc->compute)) return status;
  if (refuse_all || (d->type == f64 && desc->epilogue != plain)) return blas_not_supported;
  *results = {};
  memcpy(results->algorithm.alignment, preference->alignment, sizeof preference->alignment);
  results->workspace = preference->workspace < workspace_wanted ? 0 : workspace_wanted;
  results->algorithm.workspace = results->workspace;
  *found = 1;
  return blas_success;
}

int cublasLtMatmul(void*, const Desc* desc, const void* alpha, const void* a, const Layout* of_a, const void* b,
                   const Layout* of_b, const void* beta, const void* c, const Layout* of_c, void* d, const Layout* of_d,
                   const Algorithm* algorithm, void* workspace, size_t workspace_size, void* stream) {
  const void* matrices[4] = {a, b, c, d};
  const Layout* layouts[4] = {of_a, of_b, of_c, of_d};
  for (int i = 0; i < 4; ++i) {
    const uintptr_t step = layouts[i]->count > 1 ? layouts[i]->stride * item_size(layouts[i]->type) : 0;
    if ((uintptr_t(matrices[i]) | step) % algorithm->alignment[i] != 0) return blas_invalid_value;
  }
  if (desc->epilogue == with_bias && (desc->bias == nullptr || !is_aligned(desc->bias, bias_alignment))) {
    return blas_invalid_value;
  }
  if (workspace_size < algorithm->workspace || !is_aligned(workspace, workspace_alignment)) return blas_invalid_value;
  if (of_c->leading != of_d->leading || !fit(*desc, *of_a, *of_b, *of_d)) return blas_invalid_value;
  static const double numbers[2] = {1, 0};  // alpha and beta are read now, the matrices when the work is done
  static const float singles[2] = {1, 0};
  const bool wide = desc->compute == compute_64f;
  const auto kept = [wide](const void* number) -> const void* {
    const bool zero = wide ? *static_cast<const double*>(number) == 0 : *static_cast<const float*>(number) == 0;
    return wide ? static_cast<const void*>(&numbers[zero]) : &singles[zero];
  };
  const Product asked = product(*desc, kept(alpha), a, *of_a, b, *of_b, kept(beta), c, d, *of_d);
  if (const int status = check(asked, of_d->type, desc->compute)) return status;
  const int type = of_d->type, compute = desc->compute;
  void* used = algorithm->workspace ? workspace : nullptr;
  return submit(stream, [=] {
    ++products;
    if (used != nullptr) memset(used, 0xff, workspace_wanted);  // it is scratch memory
    return multiply(asked, type, compute);
  });
}

}  // extern "C"
