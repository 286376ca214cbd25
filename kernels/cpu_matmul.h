// Products of two matrices on device "cpu", by the BLAS that NumPy brings along, and what is done with the result in
// place: bias and ReLU of a linear layer.
//
// Left to NumPy: batches of matrices, empty ones, long vectors, layouts that BLAS does not read, and a matrix times its
// own transpose, for which NumPy has BLAS compute one triangle.
#pragma once
#include "cpu_elementwise.h"

namespace cpu {

// --- BLAS ------------------------------------------------------------------------------------------------------------

constexpr int ROW_MAJOR = 101, AS_IT_IS = 111, TRANSPOSED = 112;  // as cblas.h numbers them

template <class T, class Int>
using Gemm = void (*)(int order, int of_x, int of_y, Int rows, Int columns, Int inner, T alpha, const T* x, Int x_step,
                      const T* y, Int y_step, T beta, T* out, Int out_step);

// cblas_sgemm and cblas_dgemm, found by tensorlite/backends/cpu_compiled.py; null where they were not.
struct Blas {
  void *float32, *float64;
  bool wide;  // whether its integers have 64 bits
};
inline Blas blas;

template <class T>
void* gemm_of() {
  return sizeof(T) == 4 ? blas.float32 : blas.float64;
}

// A matrix as BLAS reads it.
template <class T>
struct Factor {
  const T* data;
  i64 step;
  int transposition;
};

template <class T, class Int>
void multiply_by(T* out, const Factor<T>& x, const Factor<T>& y, i64 rows, i64 inner, i64 columns) {
  const auto gemm = reinterpret_cast<Gemm<T, Int>>(gemm_of<T>());
  gemm(ROW_MAJOR, x.transposition, y.transposition, Int(rows), Int(columns), Int(inner), T(1), x.data, Int(x.step),
       y.data, Int(y.step), T(0), out, Int(columns));
}

// --- the task --------------------------------------------------------------------------------------------------------

enum class Then { nothing, bias, relu, bias_relu };

template <class T, Then then>
struct Product : Task {
  T* out;
  Factor<T> x, y;
  i64 rows, inner, columns;
  const T* bias;

  bool operator()() {
    if (blas.wide) multiply_by<T, i64>(out, x, y, rows, inner, columns);
    else multiply_by<T, i32>(out, x, y, rows, inner, columns);
    if constexpr (then != Then::nothing) finish();
    return true;
  }

 private:
  void finish() const {
    const i64 width = columns;
    parallel_for(rows, ELEMENTS_PER_THREAD / width + 1, [this, width](i64 begin, i64 end) {
      const T* const added = bias;
      for (i64 r = begin; r < end; ++r) {
        T* const row = out + r * width;
#pragma GCC ivdep
        for (i64 c = 0; c < width; ++c) {
          const T sum = then == Then::relu ? row[c] : row[c] + added[c];
          row[c] = then == Then::bias ? sum : formulas::relu{}(sum);
        }
      }
    });
  }
};

// --- arguments -------------------------------------------------------------------------------------------------------

// Whether lines of `length` elements, `count` of them, lie apart by `step` bytes and are dense in themselves.
inline bool are_lines(i64 count, i64 length, i64 step, i64 within, i64 size) {
  return (within == size || length == 1) && (count == 1 || (step % size == 0 && step >= length * size));
}

template <class T>
bool read_factor(const Array& array, Factor<T>& factor) {
  const i64 size = sizeof(T), rows = array.shape[0], columns = array.shape[1];
  const i64 down = array.strides[0], along = array.strides[1];
  factor.data = reinterpret_cast<const T*>(array.data);
  if (are_lines(rows, columns, down, along, size)) {
    factor.step = rows == 1 ? columns : down / size;
    factor.transposition = AS_IT_IS;
  } else if (are_lines(columns, rows, along, down, size)) {
    factor.step = columns == 1 ? rows : along / size;
    factor.transposition = TRANSPOSED;
  } else {
    return false;
  }
  return factor.step < (i64(1) << 31);
}

template <class T>
Factor<T> transposed(Factor<T> factor) {
  factor.transposition = factor.transposition == AS_IT_IS ? TRANSPOSED : AS_IT_IS;
  return factor;
}

// A large matrix times a vector is better done as such, which NumPy does.
constexpr i64 LARGEST_FOR_VECTORS = 1 << 18;

inline bool are_proper(i64 rows, i64 inner, i64 columns) {
  const i64 limit = i64(1) << 31;
  if ((rows == 1 || columns == 1) && rows * inner * columns > LARGEST_FOR_VECTORS) return false;
  return rows > 0 && inner > 0 && columns > 0 && rows < limit && inner < limit && columns < limit;
}

template <class T, Then then>
Product<T, then>& add_product(Tape& tape, const Array& out, const Factor<T>& x, const Factor<T>& y, i64 rows,
                              i64 inner, i64 columns) {
  auto& task = tape.add<Product<T, then>>(rows * columns + rows * inner * columns / 64);
  task.out = reinterpret_cast<T*>(out.data);
  task.x = x;
  task.y = y;
  task.rows = rows;
  task.inner = inner;
  task.columns = columns;
  return task;
}

template <class T>
bool prepare_matmul_of(Arguments& arguments, Tape& tape) {
  const Array *out = arguments.array(0), *x = arguments.array(1), *y = arguments.array(2);
  if (gemm_of<T>() == nullptr || !holds<T>(out) || !holds<T>(x) || !holds<T>(y)) return false;
  if (out->ndim != 2 || x->ndim != 2 || y->ndim != 2 || !out->is_row_major() || x->data == y->data) return false;
  const i64 rows = out->shape[0], inner = x->shape[1], columns = out->shape[1];
  Factor<T> left, right;
  if (!are_proper(rows, inner, columns) || !read_factor(*x, left) || !read_factor(*y, right)) return false;
  add_product<T, Then::nothing>(tape, *out, left, right, rows, inner, columns);
  return true;
}

inline bool prepare_matmul(Arguments& arguments, Tape& tape) {
  return prepare_matmul_of<float>(arguments, tape) || prepare_matmul_of<double>(arguments, tape);
}

// linear(out, x, weight, bias): x of any number of dimensions, laid out by rows, is one matrix. `alone` is what is done
// without a bias.
template <class T, Then alone, Then with_bias>
bool prepare_linear_of(Arguments& arguments, Tape& tape) {
  const Array *out = arguments.array(0), *x = arguments.array(1), *weight = arguments.array(2);
  if (gemm_of<T>() == nullptr || !is_dense<T>(out) || !holds<T>(x) || !holds<T>(weight)) return false;
  const i64 inner = weight->shape[1], columns = weight->shape[0], rows = columns == 0 ? 0 : out->size() / columns;
  Factor<T> left{reinterpret_cast<const T*>(x->data), inner, AS_IT_IS}, right;
  if (!are_proper(rows, inner, columns) || x->data == weight->data || !read_factor(*weight, right)) return false;
  if (!x->is_row_major() && (x->ndim != 2 || !read_factor(*x, left))) return false;
  if (is_none(arguments[3])) {
    if (!arguments.readable()) return false;
    add_product<T, alone>(tape, *out, left, transposed(right), rows, inner, columns);
    return true;
  }
  const Array* bias = arguments.array(3);
  if (!is_dense<T>(bias)) return false;
  auto& task = add_product<T, with_bias>(tape, *out, left, transposed(right), rows, inner, columns);
  task.bias = reinterpret_cast<const T*>(bias->data);
  return true;
}

template <Then alone, Then with_bias>
bool prepare_linear(Arguments& arguments, Tape& tape) {
  return prepare_linear_of<float, alone, with_bias>(arguments, tape) ||
         prepare_linear_of<double, alone, with_bias>(arguments, tape);
}

}  // namespace cpu
