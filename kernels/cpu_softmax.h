// Softmax, log-softmax and cross entropy of device "cpu", with their derivatives: rows are the last dimension.
//
// A row's exponentials are computed in one go with those of its neighbours: short rows would not fill a vector.
#pragma once
#include "cpu_rows.h"

namespace cpu {

// to[i] = exp(x[i] - top of its row) for some rows; NaN spreads over its row through the top.
template <class T>
void exponentials(T* to, const T* x, i64 rows, i64 columns) {
  for (i64 r = 0; r < rows; ++r) {
    const T* const row = x + r * columns;
    T* const shifted = to + r * columns;
    const T top = largest_of_row(columns, row);
#pragma GCC ivdep
    for (i64 c = 0; c < columns; ++c) shifted[c] = row[c] - top;
  }
  const i64 count = rows * columns;
#pragma GCC ivdep
  for (i64 i = 0; i < count; ++i) to[i] = exp(to[i]);
}

template <class T>
void softmax_rows(T* to, const T* x, i64 rows, i64 columns) {
  exponentials(to, x, rows, columns);
  for (i64 r = 0; r < rows; ++r) {
    T* const row = to + r * columns;
    const T sum = sum_of_row<T>(columns, [row](i64 c) { return row[c]; });
#pragma GCC ivdep
    for (i64 c = 0; c < columns; ++c) row[c] /= sum;
  }
}

// Rows that together fill a block of scratch, one at least.
constexpr i64 SCRATCH = 4096;
inline i64 rows_of_block(i64 columns) { return columns < SCRATCH && columns > 0 ? SCRATCH / columns : 1; }

// log of the sum of exp(x - top), and the top, of one row; `scratch` holds up to SCRATCH elements.
template <class T>
T log_of_sum(const T* row, i64 columns, T top, T* scratch) {
  T sum = T(0);
  for (i64 first = 0; first < columns; first += SCRATCH) {
    const i64 count = columns - first < SCRATCH ? columns - first : SCRATCH;
#pragma GCC ivdep
    for (i64 c = 0; c < count; ++c) scratch[c] = exp(row[first + c] - top);
    sum += sum_of_row<T>(count, [scratch](i64 c) { return scratch[c]; });
  }
  return log(sum);
}

// --- softmax and its kin ---------------------------------------------------------------------------------------------

template <class T>
struct RowsTask : Task {
  T* out;
  const T *x, *y;  // y: the second operand of a derivative
  Matrix matrix;
};

template <class T>
struct Softmax : RowsTask<T> {
  bool operator()() {
    const i64 columns = this->matrix.columns;
    parallel_for(this->matrix.rows, rows_per_thread(columns), [this, columns](i64 begin, i64 end) {
      const FlushDenormals flushing;
      const i64 step = rows_of_block(columns);
      for (i64 r = begin; r < end; r += step) {
        softmax_rows(this->out + r * columns, this->x + r * columns, end - r < step ? end - r : step, columns);
      }
    });
    return true;
  }
};

template <class T>
struct LogSoftmax : RowsTask<T> {
  bool operator()() {
    const i64 columns = this->matrix.columns;
    parallel_for(this->matrix.rows, rows_per_thread(columns), [this, columns](i64 begin, i64 end) {
      const FlushDenormals flushing;
      T scratch[SCRATCH];
      for (i64 r = begin; r < end; ++r) {
        const T* const row = this->x + r * columns;
        T* const to = this->out + r * columns;
        const T top = largest_of_row(columns, row), log_sum = log_of_sum(row, columns, top, scratch);
#pragma GCC ivdep
        for (i64 c = 0; c < columns; ++c) to[c] = (row[c] - top) - log_sum;
      }
    });
    return true;
  }
};

// to = slope(g, y, sum of share(g, y)) along each row.
template <class T, class Formula>
struct RowsGrad : RowsTask<T> {
  bool operator()() {
    const i64 columns = this->matrix.columns;
    parallel_for(this->matrix.rows, rows_per_thread(columns), [this, columns](i64 begin, i64 end) {
      const FlushDenormals flushing;
      for (i64 r = begin; r < end; ++r) {
        const T *const g = this->x + r * columns, *const y = this->y + r * columns;
        T* const to = this->out + r * columns;
        const T sum = sum_of_row<T>(columns, [=](i64 c) { return Formula::share(g[c], y[c]); });
#pragma GCC ivdep
        for (i64 c = 0; c < columns; ++c) to[c] = Formula::slope(g[c], y[c], sum);
      }
    });
    return true;
  }
};

struct OfSoftmax {
  template <class T>
  static T share(T g, T y) { return g * y; }
  template <class T>
  static T slope(T g, T y, T sum) { return (g - sum) * y; }
};
struct OfLogSoftmax {
  template <class T>
  static T share(T g, T) { return g; }
  template <class T>
  static T slope(T g, T y, T sum) { return g - exp(y) * sum; }
};

template <class T>
using SoftmaxGrad = RowsGrad<T, OfSoftmax>;
template <class T>
using LogSoftmaxGrad = RowsGrad<T, OfLogSoftmax>;

template <class RowKernel, class T>
bool prepare_rows_of(Arguments& arguments, Tape& tape, int arrays) {
  const Array *out = arguments.array(0), *x = arguments.array(1), *y = arrays == 2 ? arguments.array(2) : x;
  if (!is_dense<T>(out) || !is_dense<T>(x) || !is_dense<T>(y) || out->ndim == 0) return false;
  if (!x->has_shape_of(*out) || !y->has_shape_of(*out)) return false;
  if (arguments.integer("dim") != out->ndim - 1 || !arguments.readable()) return false;
  auto& task = tape.add<RowKernel>(8 * out->size());
  task.out = reinterpret_cast<T*>(out->data);
  task.x = reinterpret_cast<const T*>(x->data);
  task.y = reinterpret_cast<const T*>(y->data);
  task.matrix = rows_along(*out, 1);
  return true;
}

template <template <class> class RowKernel, int arrays>
bool prepare_rows(Arguments& arguments, Tape& tape) {
  return prepare_rows_of<RowKernel<float>, float>(arguments, tape, arrays) ||
         prepare_rows_of<RowKernel<double>, double>(arguments, tape, arrays);
}

// --- cross entropy ---------------------------------------------------------------------------------------------------

// Rows of logits, each with a target class or with `ignore_index`.
template <class T>
struct Batch : Task {
  T* out;
  const T *gradient, *logits;  // the gradient is a single number, of the derivative only
  const i64* targets;
  Matrix matrix;
  i64 ignore_index;

  // How many rows count, or -1 where a target is no class.
  i64 kept_rows() const {
    i64 kept = 0;
    for (i64 r = 0; r < matrix.rows; ++r) {
      const bool ignored = targets[r] == ignore_index;
      if (!ignored && u64(targets[r]) >= u64(matrix.columns)) return -1;
      kept += !ignored;
    }
    return kept;
  }
};

template <class T>
struct CrossEntropy : Batch<T> {
  bool operator()() {
    const FlushDenormals flushing;
    const i64 kept = this->kept_rows(), columns = this->matrix.columns, step = rows_of_block(columns);
    if (kept < 0) return false;
    T scratch[SCRATCH];
    double sum = 0;
    for (i64 first = 0; first < this->matrix.rows; first += step) {
      const i64 rows = this->matrix.rows - first < step ? this->matrix.rows - first : step;
      if (columns <= SCRATCH) exponentials(scratch, this->logits + first * columns, rows, columns);
      for (i64 r = 0; r < rows; ++r) sum += loss_of(first + r, scratch + r * columns, scratch);
    }
    *this->out = T(sum / double(kept));  // NaN of no rows
    return true;
  }

 private:
  T loss_of(i64 r, const T* shifted_exponentials, T* scratch) const {
    if (this->targets[r] == this->ignore_index) return T(0);
    const i64 columns = this->matrix.columns;
    const T* const row = this->logits + r * columns;
    const T top = largest_of_row(columns, row);
    const T log_sum = columns <= SCRATCH
        ? log(sum_of_row<T>(columns, [=](i64 c) { return shifted_exponentials[c]; }))
        : log_of_sum(row, columns, top, scratch);
    return log_sum - (row[this->targets[r]] - top);
  }
};

template <class T>
struct CrossEntropyGrad : Batch<T> {
  bool operator()() {
    const i64 kept = this->kept_rows(), columns = this->matrix.columns;
    if (kept < 0) return false;
    const T scale = *this->gradient / T(kept);
    parallel_for(this->matrix.rows, rows_per_thread(columns), [=](i64 begin, i64 end) {
      const FlushDenormals flushing;
      const i64 step = rows_of_block(columns);
      for (i64 r = begin; r < end; r += step) gradients(r, end - r < step ? end - r : step, scale);
    });
    return true;
  }

 private:
  void gradients(i64 first, i64 rows, T scale) const {
    const i64 columns = this->matrix.columns;
    T* const to = this->out + first * columns;
    softmax_rows(to, this->logits + first * columns, rows, columns);
    for (i64 r = 0; r < rows; ++r) {
      const i64 target = this->targets[first + r];
      const bool ignored = target == this->ignore_index;
      if (!ignored) to[r * columns + target] -= T(1);
      const T factor = ignored ? T(0) : scale;
#pragma GCC ivdep
      for (i64 c = 0; c < columns; ++c) to[r * columns + c] = ignored ? T(0) : to[r * columns + c] * factor;
    }
  }
};

template <class Kernel, class T>
bool prepare_cross_entropy_of(Arguments& arguments, Tape& tape, bool is_derivative) {
  const int first = is_derivative ? 2 : 1;
  const Array *out = arguments.array(0), *logits = arguments.array(first), *targets = arguments.array(first + 1);
  if (!is_dense<T>(out) || !is_dense<T>(logits) || !is_dense<i64>(targets) || logits->ndim != 2) return false;
  const Array* gradient = is_derivative ? arguments.array(1) : out;
  if (!holds<T>(gradient) || gradient->ndim != 0) return false;
  const i64 ignore_index = arguments.integer("ignore_index");
  if (!arguments.readable()) return false;
  auto& task = tape.add<Kernel>(8 * logits->size());
  task.out = reinterpret_cast<T*>(out->data);
  task.gradient = reinterpret_cast<const T*>(gradient->data);
  task.logits = reinterpret_cast<const T*>(logits->data);
  task.targets = reinterpret_cast<const i64*>(targets->data);
  task.matrix = rows_along(*logits, 1);
  task.ignore_index = ignore_index;
  return true;
}

inline bool prepare_cross_entropy(Arguments& arguments, Tape& tape) {
  return prepare_cross_entropy_of<CrossEntropy<float>, float>(arguments, tape, false) ||
         prepare_cross_entropy_of<CrossEntropy<double>, double>(arguments, tape, false);
}
inline bool prepare_cross_entropy_grad(Arguments& arguments, Tape& tape) {
  return prepare_cross_entropy_of<CrossEntropyGrad<float>, float>(arguments, tape, true) ||
         prepare_cross_entropy_of<CrossEntropyGrad<double>, double>(arguments, tape, true);
}

}  // namespace cpu
