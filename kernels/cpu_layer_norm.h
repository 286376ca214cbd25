// LayerNorm and RMSNorm of device "cpu" and their derivatives: a row is what the last `dims` dimensions hold.
#pragma once
#include "cpu_rows.h"

namespace cpu {

// Whether the mean of a row is subtracted, as in LayerNorm, or not, as in RMSNorm.
enum class Rows { centered, as_they_are };

// What normalises a row: its mean, or 0, and the reciprocal of the root of its mean square plus eps.
template <class T>
struct Moments {
  T mean, scale;
};

template <Rows rows, class T>
Moments<T> moments_of(const T* row, i64 columns, T eps) {
  const T count = T(columns);
  T mean = T(0);
  if constexpr (rows == Rows::centered) mean = sum_of_row<T>(columns, [=](i64 c) { return row[c]; }) / count;
  const T squares = sum_of_row<T>(columns, [=](i64 c) { return (row[c] - mean) * (row[c] - mean); });
  return {mean, T(1) / sqrt(squares / count + eps)};
}

template <class T, Rows rows>
struct LayerNormTask : Task {
  T* out;
  const T *g, *x, *weight, *bias;  // g: of the derivatives; weight and bias may be null
  Matrix matrix;
  T eps;

  // body(row number, its moments) for all rows.
  template <class Body>
  void for_rows(const Body& body) const {
    const i64 columns = matrix.columns;
    parallel_for(matrix.rows, rows_per_thread(columns), [&](i64 begin, i64 end) {
      const FlushDenormals flushing;
      for (i64 r = begin; r < end; ++r) body(r, moments_of<rows>(x + r * columns, columns, eps));
    });
  }
};

template <class T, Rows rows>
struct LayerNorm : LayerNormTask<T, rows> {
  bool operator()() {
    const i64 columns = this->matrix.columns;
    this->for_rows([this, columns](i64 r, const Moments<T>& m) {
      const T *const row = this->x + r * columns, *const scale = this->weight, *const shift = this->bias;
      T* const to = this->out + r * columns;
      const T mean = m.mean, factor = m.scale;
      if (scale != nullptr && shift != nullptr) {
#pragma GCC ivdep
        for (i64 c = 0; c < columns; ++c) to[c] = (row[c] - mean) * factor * scale[c] + shift[c];
      } else if (scale != nullptr) {
#pragma GCC ivdep
        for (i64 c = 0; c < columns; ++c) to[c] = (row[c] - mean) * factor * scale[c];
      } else {
#pragma GCC ivdep
        for (i64 c = 0; c < columns; ++c) to[c] = (row[c] - mean) * factor;
        for (i64 c = 0; shift != nullptr && c < columns; ++c) to[c] += shift[c];
      }
    });
    return true;
  }
};

// scale (a - mean(a) - n mean(a n)), with a = g weight and n the normalised row; without mean(a) in RMSNorm.
template <class T, Rows rows>
struct LayerNormGrad : LayerNormTask<T, rows> {
  bool operator()() {
    if (this->weight == nullptr) fill([](const T* g, const T*, i64 c) { return g[c]; });
    else fill([](const T* g, const T* weight, i64 c) { return g[c] * weight[c]; });
    return true;
  }

 private:
  template <class Weighted>
  void fill(const Weighted& weighted) const {
    const i64 columns = this->matrix.columns;
    this->for_rows([&, this](i64 r, const Moments<T>& m) {
      const T *const row = this->x + r * columns, *const g = this->g + r * columns, *const scale = this->weight;
      T* const to = this->out + r * columns;
      const T count = T(columns), mean = m.mean, factor = m.scale;
      const T along = sum_of_row<T>(columns, [=](i64 c) {
        return weighted(g, scale, c) * ((row[c] - mean) * factor);
      }) / count;
      T level = T(0);
      if constexpr (rows == Rows::centered) {
        level = sum_of_row<T>(columns, [=](i64 c) { return weighted(g, scale, c); }) / count;
      }
#pragma GCC ivdep
      for (i64 c = 0; c < columns; ++c) {
        to[c] = (weighted(g, scale, c) - level - (row[c] - mean) * factor * along) * factor;
      }
    });
  }
};

// The sum over rows of g n. The moments of the rows follow the task.
template <class T, Rows rows>
struct LayerNormWeightGrad : LayerNormTask<T, rows> {
  bool operator()() {
    Moments<T>* const moments = items_of<Moments<T>>(*this);
    this->for_rows([=](i64 r, const Moments<T>& m) { moments[r] = m; });
    const T *const x = this->x, *const g = this->g;
    const i64 columns = this->matrix.columns;
    sum_columns(this->out, this->matrix.rows, columns, [=](i64 r, i64 c) {
      return (x[r * columns + c] - moments[r].mean) * moments[r].scale * g[r * columns + c];
    });
    return true;
  }
};

// --- arguments -------------------------------------------------------------------------------------------------------

// layer_norm(out, x, weight, bias), layer_norm_grad(out, g, x, weight), layer_norm_weight_grad(out, g, x).
enum class LayerNormKind { forward, grad, weight_grad };

// A vector that is given as an array of `size` elements or as None: whether it is readable.
template <class T>
bool read_vector(Arguments& arguments, i64 at, i64 size, const T*& vector) {
  if (is_none(arguments[at])) return arguments.readable();
  const Array* array = arguments.array(at);
  if (!is_dense<T>(array) || array->size() != size) return false;
  vector = reinterpret_cast<const T*>(array->data);
  return true;
}

template <class Kernel, class T, LayerNormKind kind>
bool prepare_layer_norm_of(Arguments& arguments, Tape& tape) {
  const int first = kind == LayerNormKind::forward ? 1 : 2;
  const Array *out = arguments.array(0), *g = arguments.array(1), *x = arguments.array(first);
  if (!is_dense<T>(out) || !is_dense<T>(g) || !is_dense<T>(x) || !g->has_shape_of(*x)) return false;
  const int dims = arguments.trailing_dims("dims", *x);
  if (dims == 0) return false;
  const Matrix matrix = rows_along(*x, dims);
  const T *weight = nullptr, *bias = nullptr;
  if (kind != LayerNormKind::weight_grad && !read_vector(arguments, first + 1, matrix.columns, weight)) return false;
  if (kind == LayerNormKind::forward && !read_vector(arguments, first + 2, matrix.columns, bias)) return false;
  const double eps = arguments.number("eps");
  if (!arguments.readable()) return false;
  const i64 moments = kind == LayerNormKind::weight_grad ? matrix.rows : 0;
  auto& task = tape.add<Kernel, Moments<T>>(4 * x->size(), moments);
  task.out = reinterpret_cast<T*>(out->data);
  task.g = reinterpret_cast<const T*>(g->data);
  task.x = reinterpret_cast<const T*>(x->data);
  task.weight = weight;
  task.bias = bias;
  task.matrix = matrix;
  task.eps = T(eps);
  return true;
}

template <template <class, Rows> class Kernel, Rows rows, LayerNormKind kind>
bool prepare_layer_norm(Arguments& arguments, Tape& tape) {
  return prepare_layer_norm_of<Kernel<float, rows>, float, kind>(arguments, tape) ||
         prepare_layer_norm_of<Kernel<double, rows>, double, kind>(arguments, tape);
}

}  // namespace cpu
