// Elementwise kernels of device "cpu": a loop over a formula, with arrays first and numbers after them.
//
// They take arrays of one float dtype and one dense layout, the result's. All else is NumPy's.
#pragma once
#include "cpu_tasks.h"
#include "cpu_threads.h"
#include "formulas.cuh"

namespace cpu {

constexpr i64 ELEMENTS_PER_THREAD = 1 << 18;  // below twice that, waking a thread costs more than it saves

// A formula whose first operand is the number: 1 - x, 2 / x.
template <class Formula>
struct Swapped {
  template <class T>
  T operator()(T x, T number) const { return Formula{}(number, x); }
};

struct Fill {
  template <class T>
  T operator()(T number) const { return number; }
};

// Whether denormal numbers are flushed.
enum class Denormals { kept, flushed };

template <class Formula, class T, int arrays, int numbers, Denormals denormals>
struct Elementwise : Task {
  T* out;
  const T* x[arrays + 1];
  T number[numbers + 1];
  i64 count;

  bool operator()() {
    parallel_for(count, ELEMENTS_PER_THREAD, [this](i64 begin, i64 end) {
      if constexpr (denormals == Denormals::flushed) {
        const FlushDenormals flushing;
        loop(begin, end);
      } else {
        loop(begin, end);
      }
    });
    return true;
  }

 private:
  // The task's fields are copied, for the compiler cannot know that `out` does not point to them.
  void loop(i64 begin, i64 end) const {
    T* const to = out;
    const T *const a = x[0], *const b = x[arrays > 1 ? 1 : 0];
    const T first = number[0], second = number[numbers > 1 ? 1 : 0];
#pragma GCC ivdep
    for (i64 i = begin; i < end; ++i) {
      if constexpr (arrays == 0) to[i] = Formula{}(first);
      else if constexpr (arrays == 1 && numbers == 0) to[i] = Formula{}(a[i]);
      else if constexpr (arrays == 1 && numbers == 1) to[i] = Formula{}(a[i], first);
      else if constexpr (arrays == 1) to[i] = Formula{}(a[i], first, second);
      else if constexpr (numbers == 0) to[i] = Formula{}(a[i], b[i]);
      else if constexpr (numbers == 1) to[i] = Formula{}(a[i], b[i], first);
      else to[i] = Formula{}(a[i], b[i], first, second);
    }
  }
};

// Whether an array is a dense operand of an elementwise kernel that writes `out`.
template <class T>
bool fits(const Array* array, const Array& out) {
  return holds<T>(array) && array->has_shape_of(out) &&
         ((array->is_row_major() && out.is_row_major()) || (array->is_column_major() && out.is_column_major()));
}

template <class Formula, class T, int arrays, int numbers, Denormals denormals>
bool prepare_elementwise_of(Arguments& arguments, Tape& tape) {
  const Array* out = arguments.array(0);
  if (!holds<T>(out) || !fits<T>(out, *out) || arguments.count() != 1 + arrays + numbers) return false;
  T number[numbers + 1];
  for (int k = 0; k < arrays; ++k) {
    if (!fits<T>(arguments.array(1 + k), *out)) return false;
  }
  for (int k = 0; k < numbers; ++k) number[k] = T(arguments.number(arguments[1 + arrays + k]));
  if (!arguments.readable()) return false;
  const i64 size = out->size();
  auto& task = tape.add<Elementwise<Formula, T, arrays, numbers, denormals>>(size);
  task.out = reinterpret_cast<T*>(out->data);
  task.count = size;
  for (int k = 0; k < arrays; ++k) task.x[k] = reinterpret_cast<const T*>(arguments.array(1 + k)->data);
  for (int k = 0; k < numbers; ++k) task.number[k] = number[k];
  return true;
}

template <class Formula, int arrays, int numbers, Denormals denormals>
bool prepare_elementwise(Arguments& arguments, Tape& tape) {
  return prepare_elementwise_of<Formula, float, arrays, numbers, denormals>(arguments, tape) ||
         prepare_elementwise_of<Formula, double, arrays, numbers, denormals>(arguments, tape);
}

// A binary operation: two arrays, or a number on either side.
template <class Formula>
bool prepare_binary(Arguments& arguments, Tape& tape) {
  constexpr Denormals kept = Denormals::kept;
  const Array *x = arguments.array(1), *y = arguments.array(2);
  if (x != nullptr && y != nullptr) return prepare_elementwise<Formula, 2, 0, kept>(arguments, tape);
  if (x != nullptr) return prepare_elementwise<Formula, 1, 1, kept>(arguments, tape);
  if (y == nullptr || arguments.count() != 3) return false;
  PyObject* const swapped[] = {arguments[0], arguments[2], arguments[1]};
  Arguments of_swapped(swapped, 3, nullptr);
  return prepare_elementwise<Swapped<Formula>, 1, 1, kept>(of_swapped, tape);
}

// --- copying ---------------------------------------------------------------------------------------------------------

struct Copy : Task {
  char* out;
  const char* x;
  i64 size;

  bool operator()() {
    memmove(out, x, size_t(size));
    return true;
  }
};

// The bytes of an element, for the dtypes that are copied here; 0 for others.
inline i64 bytes_of_element(const Array& array) {
  return holds<float>(&array) ? 4 : holds<double>(&array) || holds<i64>(&array) ? 8 : 0;
}

inline bool prepare_copy(Arguments& arguments, Tape& tape) {
  const Array *out = arguments.array(0), *x = arguments.array(1);
  if (out == nullptr || x == nullptr || x->dtype != out->dtype || !x->has_shape_of(*out)) return false;
  const i64 bytes = bytes_of_element(*out);
  if (bytes == 0 || !(x->is_row_major() && out->is_row_major())) return false;
  auto& task = tape.add<Copy>(out->size());
  task.out = out->data;
  task.x = x->data;
  task.size = out->size() * bytes;
  return true;
}

// Whether all of some indices lie in [0, rows); others are errors, or count from the end.
inline bool are_in_range(const i64* index, i64 count, i64 rows) {
  for (i64 k = 0; k < count; ++k) {
    if (u64(index[k]) >= u64(rows)) return false;
  }
  return true;
}

// Rows of x in the order of an index, as batches are taken from a data set.
struct Gather : Task {
  char* out;
  const char* x;
  const i64* index;
  i64 count, rows, row_bytes;

  bool operator()() {
    if (!are_in_range(index, count, rows)) return false;
    parallel_for(count, 4 * ELEMENTS_PER_THREAD / (row_bytes + 1) + 1, [this](i64 begin, i64 end) {
      for (i64 k = begin; k < end; ++k) memcpy(out + k * row_bytes, x + index[k] * row_bytes, size_t(row_bytes));
    });
    return true;
  }
};

// index(out, x, index, dims=(0,)) with one dense array of indices.
inline bool prepare_gather(Arguments& arguments, Tape& tape) {
  const Array *out = arguments.array(0), *x = arguments.array(1), *index = arguments.array(2);
  if (arguments.count() != 3 || out == nullptr || x == nullptr || !holds<i64>(index)) return false;
  if (x->ndim == 0 || x->dtype != out->dtype || bytes_of_element(*out) == 0 || arguments.leading_dims("dims") != 1) {
    return false;
  }
  if (!x->is_row_major() || !out->is_row_major() || !index->is_row_major()) return false;
  auto& task = tape.add<Gather>(out->size());
  task.out = out->data;
  task.x = x->data;
  task.index = reinterpret_cast<const i64*>(index->data);
  task.count = index->size();
  task.rows = x->shape[0];
  task.row_bytes = bytes_of_element(*out);
  for (int k = 1; k < x->ndim; ++k) task.row_bytes *= x->shape[k];
  return true;
}

// Rows of x added to those of `out` that an index names, in its order: the gradient of an embedding.
template <class T>
struct ScatterAdd : Task {
  T* out;
  const T* x;
  const i64* index;
  i64 count, rows, columns;

  bool operator()() {
    if (!are_in_range(index, count, rows)) return false;
    parallel_for(columns, ELEMENTS_PER_THREAD / (count + 1) + 1, [this](i64 begin, i64 end) {
      for (i64 k = 0; k < count; ++k) {
        T* const to = out + index[k] * columns;
        const T* const from = x + k * columns;
#pragma GCC ivdep
        for (i64 c = begin; c < end; ++c) to[c] += from[c];
      }
    });
    return true;
  }
};

// index_add(out, x, index, dims=(0,)) with one dense array of indices.
template <class T>
bool prepare_scatter_add_of(Arguments& arguments, Tape& tape) {
  const Array *out = arguments.array(0), *x = arguments.array(1), *index = arguments.array(2);
  if (arguments.count() != 3 || !is_dense<T>(out) || !is_dense<T>(x) || !is_dense<i64>(index)) return false;
  if (out->ndim == 0 || arguments.leading_dims("dims") != 1) return false;
  i64 columns = 1;
  for (int k = 1; k < out->ndim; ++k) columns *= out->shape[k];
  if (x->size() != index->size() * columns) return false;
  auto& task = tape.add<ScatterAdd<T>>(x->size());
  task.out = reinterpret_cast<T*>(out->data);
  task.x = reinterpret_cast<const T*>(x->data);
  task.index = reinterpret_cast<const i64*>(index->data);
  task.count = index->size();
  task.rows = out->shape[0];
  task.columns = columns;
  return true;
}

inline bool prepare_scatter_add(Arguments& arguments, Tape& tape) {
  return prepare_scatter_add_of<float>(arguments, tape) || prepare_scatter_add_of<double>(arguments, tape);
}

}  // namespace cpu
