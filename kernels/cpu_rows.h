// What the row-wise kernels of device "cpu" share: sums and maxima over a row, blocks of rows, and sums of columns.
#pragma once
#include "cpu_elementwise.h"

namespace cpu {

constexpr i64 LANES = 16;  // partial results of a row, so that a sum vectorises and its order is fixed

// fold(... fold(start, term(0)), term(1) ...) over a row: lane by lane, then the lanes two by two, then what is left.
template <class Fold, class T, class Term>
T fold_row(i64 count, T start, const Term& term) {
  T lanes[LANES];
  for (i64 k = 0; k < LANES; ++k) lanes[k] = start;
  const i64 whole = count / LANES * LANES;
  for (i64 i = 0; i < whole; i += LANES) {
    for (i64 k = 0; k < LANES; ++k) lanes[k] = Fold{}(lanes[k], term(i + k));
  }
  T rest = start;
  for (i64 i = whole; i < count; ++i) rest = Fold{}(rest, term(i));
  if (whole == 0) return rest;
  for (i64 half = LANES / 2; half > 0; half /= 2) {
    for (i64 k = 0; k < half; ++k) lanes[k] = Fold{}(lanes[k], lanes[k + half]);
  }
  return Fold{}(lanes[0], rest);
}

template <class T, class Term>
T sum_of_row(i64 count, const Term& term) {
  return fold_row<formulas::add>(count, T(0), term);
}

template <class T>
T largest_of_row(i64 count, const T* row) {
  return fold_row<formulas::maximum>(count, Limits<T>::lowest(), [row](i64 i) { return row[i]; });
}

// How many rows to give a thread at least.
inline i64 rows_per_thread(i64 columns) {
  const i64 expensive = ELEMENTS_PER_THREAD / 8;  // an element of a row-wise kernel costs an exp or several passes
  return expensive / (columns < 1 ? 1 : columns) + 1;
}

// --- arguments -------------------------------------------------------------------------------------------------------

// A matrix laid out by rows: what a row-wise kernel makes of an array of any number of dimensions.
struct Matrix {
  i64 rows, columns;
};

// Rows along the last `dims` dimensions of an array.
inline Matrix rows_along(const Array& array, int dims) {
  Matrix matrix{1, 1};
  for (int k = 0; k < array.ndim; ++k) (k < array.ndim - dims ? matrix.rows : matrix.columns) *= array.shape[k];
  return matrix;
}

// --- sums of columns -------------------------------------------------------------------------------------------------

// out[c] = the sum over rows r of term(r, c), added in the order of the rows.
template <class T, class Term>
void sum_columns(T* out, i64 rows, i64 columns, const Term& term) {
  parallel_for(columns, ELEMENTS_PER_THREAD / (rows < 1 ? 1 : rows) + 1, [&](i64 begin, i64 end) {
    constexpr i64 WIDTH = 256;  // the sums of so many columns fit into a processor's registers
    for (i64 first = begin; first < end; first += WIDTH) {
      T sum[WIDTH] = {};
      const i64 width = end - first < WIDTH ? end - first : WIDTH;
      if (width == WIDTH) {
        for (i64 r = 0; r < rows; ++r) {
#pragma GCC ivdep
          for (i64 k = 0; k < WIDTH; ++k) sum[k] += term(r, first + k);
        }
      } else {
        for (i64 r = 0; r < rows; ++r) {
#pragma GCC ivdep
          for (i64 k = 0; k < width; ++k) sum[k] += term(r, first + k);
        }
      }
      for (i64 k = 0; k < width; ++k) out[first + k] = sum[k];
    }
  });
}

template <class T>
struct SumOfColumns : Task {
  T* out;
  const T* x;
  Matrix matrix;

  bool operator()() {
    const T* const from = x;
    const i64 columns = matrix.columns;
    sum_columns(out, matrix.rows, columns, [=](i64 r, i64 c) { return from[r * columns + c]; });
    return true;
  }
};

// out[c] = the sum of x[:, c, ...], whose stretches are added in their order.
template <class T>
struct SumOfChannels : Task {
  T* out;
  const T* x;
  i64 images, channels, plane;

  bool operator()() {
    const SumOfChannels of = *this;
    parallel_for(channels, ELEMENTS_PER_THREAD / (images * plane + 1) + 1, [of](i64 begin, i64 end) {
      for (i64 c = begin; c < end; ++c) {
        T total = 0;
        for (i64 n = 0; n < of.images; ++n) {
          const T* const stretch = of.x + (n * of.channels + c) * of.plane;
          total += sum_of_row<T>(of.plane, [stretch](i64 k) { return stretch[k]; });
        }
        of.out[c] = total;
      }
    });
    return true;
  }
};

template <class T>
bool prepare_sum_of_channels(Arguments& arguments, Tape& tape, const Array& out, const Array& x) {
  if (x.ndim < 3 || out.size() != x.shape[1] || !arguments.all_dims_but(1, "dims", x)) return false;
  auto& task = tape.add<SumOfChannels<T>>(x.size());
  task.out = reinterpret_cast<T*>(out.data);
  task.x = reinterpret_cast<const T*>(x.data);
  task.images = x.shape[0];
  task.channels = x.shape[1];
  task.plane = rows_along(x, x.ndim - 2).columns;
  return true;
}

// sum(out, x, dims=): over all but the last dimension, leading ones, or all but the second one; others are NumPy's.
template <class T>
bool prepare_sum_of(Arguments& arguments, Tape& tape) {
  const Array *out = arguments.array(0), *x = arguments.array(1);
  if (!is_dense<T>(out) || !is_dense<T>(x)) return false;
  if (prepare_sum_of_channels<T>(arguments, tape, *out, *x)) return true;
  const int folded = arguments.leading_dims("dims");
  if (folded == 0 || folded >= x->ndim) return false;
  const Matrix matrix = rows_along(*x, x->ndim - folded);
  if (out->size() != matrix.columns) return false;
  auto& task = tape.add<SumOfColumns<T>>(x->size());
  task.out = reinterpret_cast<T*>(out->data);
  task.x = reinterpret_cast<const T*>(x->data);
  task.matrix = matrix;
  return true;
}

inline bool prepare_sum(Arguments& arguments, Tape& tape) {
  return prepare_sum_of<float>(arguments, tape) || prepare_sum_of<double>(arguments, tape);
}

// --- the derivative of a linear layer's ReLU, with the gradient of its bias ------------------------------------------

template <class T>
struct ReluBiasGrad : Task {
  T *slope, *total;
  const T *g, *y;
  Matrix matrix;

  bool operator()() {
    T* const to = slope;
    const T *const gradient = g, *const result = y;
    const i64 columns = matrix.columns;
    sum_columns(total, matrix.rows, columns, [=](i64 r, i64 c) {
      const i64 at = r * columns + c;
      return to[at] = formulas::relu_grad{}(gradient[at], result[at]);
    });
    return true;
  }
};

// relu_bias_grad((slope, total), g, y): slope = relu_grad(g, y), and total the sums of its columns.
template <class T>
bool prepare_relu_bias_grad_of(Arguments& arguments, Tape& tape) {
  const Array *slope = arguments.array_of(0, 0), *total = arguments.array_of(0, 1);
  const Array *g = arguments.array(1), *y = arguments.array(2);
  if (!is_dense<T>(slope) || !is_dense<T>(total) || !is_dense<T>(g) || !is_dense<T>(y)) return false;
  if (slope->ndim == 0 || !g->has_shape_of(*slope) || !y->has_shape_of(*slope)) return false;
  auto& task = tape.add<ReluBiasGrad<T>>(2 * slope->size());
  task.slope = reinterpret_cast<T*>(slope->data);
  task.total = reinterpret_cast<T*>(total->data);
  task.g = reinterpret_cast<const T*>(g->data);
  task.y = reinterpret_cast<const T*>(y->data);
  task.matrix = rows_along(*slope, 1);
  return true;
}

inline bool prepare_relu_bias_grad(Arguments& arguments, Tape& tape) {
  return prepare_relu_bias_grad_of<float>(arguments, tape) || prepare_relu_bias_grad_of<double>(arguments, tape);
}

}  // namespace cpu
