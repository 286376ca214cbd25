// Pooling of device "cpu": the largest or the mean of each window of dense planes, and the derivatives.
//
// A plane belongs to one thread, which takes its windows row by row. Of a row of windows the elements at one offset lie
// evenly in memory, so loops run over windows and vectorise. Windows of 2 x 2 that tile the plane, those of most
// networks, have loops of their own.
#pragma once
#include "cpu_elementwise.h"

namespace cpu {

// How windows lie along one dimension of a plane.
struct PoolAxis {
  i64 size, windows, kernel, stride, padding, dilation;

  // Where the element at an offset of window 0 lies; it may lie outside.
  i64 place(i64 offset) const { return offset * dilation - padding; }
  // The first window that has an element at an offset, and the one after the last.
  i64 first(i64 offset) const {
    const i64 before = -place(offset);
    return before <= 0 ? 0 : (before + stride - 1) / stride;
  }
  i64 end(i64 offset) const {
    const i64 room = size - 1 - place(offset);
    return room < 0 ? 0 : smaller(room / stride + 1, windows);
  }
  // How many elements a window has, of the dimension or also of its padding.
  i64 length(i64 window, bool with_padding) const {
    const i64 start = window * stride - padding, margin = with_padding ? padding : 0;
    return smaller(start + kernel, size + margin) - (start > -margin ? start : -margin);
  }
  bool is_halved() const { return kernel == 2 && stride == 2 && padding == 0 && dilation == 1 && 2 * windows == size; }

  static i64 smaller(i64 a, i64 b) { return a < b ? a : b; }
};

// out, and what it is made of: of `x` the windows are, `g` is another array of the kernel, if it has one.
template <class Out, class T>
struct PoolTask : Task {
  Out* out;
  const T *g, *x;
  i64 planes;
  PoolAxis rows, columns;

  i64 plane_size() const { return rows.size * columns.size; }
  i64 window_count() const { return rows.windows * columns.windows; }
  bool is_tiled() const { return rows.is_halved() && columns.is_halved(); }

  // body(number of a plane) for all of them.
  template <class Body>
  void for_planes(const Body& body) const {
    const i64 work = plane_size() + window_count() * rows.kernel * columns.kernel;
    parallel_for(planes, ELEMENTS_PER_THREAD / (work + 1) + 1, [&body](i64 begin, i64 end) {
      for (i64 plane = begin; plane < end; ++plane) body(plane);
    });
  }

  // body(stride, place, first, end): the elements of a row of windows at each offset in turn. That of window q, for
  // first <= q < end, lies at place + q * stride in the plane. A stride of 1 or 2 is a constant, for vectors.
  template <class Body>
  void for_offsets(i64 p, i64 begin, i64 end, const Body& body) const {
    for (i64 i = 0; i < rows.kernel; ++i) {
      const i64 row = p * rows.stride + rows.place(i);
      if (row < 0 || row >= rows.size) continue;
      for (i64 j = 0; j < columns.kernel; ++j) {
        const i64 place = row * columns.size + columns.place(j);
        const i64 from = columns.first(j) > begin ? columns.first(j) : begin;
        const i64 to = PoolAxis::smaller(columns.end(j), end);
        if (columns.stride == 1) body(Constant<1>{}, place, from, to);
        else if (columns.stride == 2) body(Constant<2>{}, place, from, to);
        else body(columns.stride, place, from, to);
      }
    }
  }

  static constexpr i64 TILE = 128;  // windows, about as many as vectors need to make up for the copies

  // Where windows of 2 x 2 tile the planes: body(first window, how many, their upper rows, their lower rows), a tile at a
  // time. Rows of windows that are shorter than a tile are joined, for loops over a few elements do not vectorise.
  template <class Body>
  void for_tiles(const Body& body) const {
    const i64 width = columns.size, half = columns.windows, joined = half < TILE ? TILE / half : 1;
    parallel_for(planes * rows.windows, ELEMENTS_PER_THREAD / (8 * width) + 1, [&](i64 begin, i64 end) {
      T upper[2 * TILE], lower[2 * TILE];
      for (i64 row = begin; row < end; row += joined) {
        const T* const from = x + 2 * row * width;
        if (half >= TILE) {
          for (i64 q = 0; q < half; q += TILE) {
            body(row * half + q, PoolAxis::smaller(TILE, half - q), from + 2 * q, from + width + 2 * q);
          }
          continue;
        }
        const i64 count = PoolAxis::smaller(joined, end - row);
        for (i64 k = 0; k < count; ++k) {
          memcpy(upper + k * width, from + 2 * k * width, size_t(width) * sizeof(T));
          memcpy(lower + k * width, from + (2 * k + 1) * width, size_t(width) * sizeof(T));
        }
        body(row * half, count * half, upper, lower);
      }
    });
  }

  // Copies the rows that belong to a tile to their places in planes.
  void unpack(i64 window, i64 count, const T* upper, const T* lower, T* planes) const {
    const i64 width = columns.size, half = columns.windows;
    for (i64 done = 0; done < count;) {
      const i64 row = (window + done) / half, column = (window + done) % half;
      const i64 length = PoolAxis::smaller(half - column, count - done);
      T* const to = planes + 2 * row * width + 2 * column;
      memcpy(to, upper + 2 * done, size_t(2 * length) * sizeof(T));
      memcpy(to + width, lower + 2 * done, size_t(2 * length) * sizeof(T));
      done += length;
    }
  }

 private:
  template <i64 number>
  struct Constant {
    constexpr operator i64() const { return number; }
  };
};

constexpr i64 WINDOWS_AT_ONCE = 64;

// --- the largest -----------------------------------------------------------------------------------------------------

// Of equals the first one is kept, and NaN over all.
template <class T>
bool beats(T x, T best) {
  return bool(int(x > best) | int(x != x));
}
template <class T>
T larger_of(T best, T x) {
  return beats(x, best) ? x : best;
}

template <class T>
struct MaxPool : PoolTask<T, T> {
  bool operator()() {
    if (this->is_tiled()) return halve();
    this->for_planes([this](i64 plane) {
      const T* const x = this->x + plane * this->plane_size();
      T* const out = this->out + plane * this->window_count();
      for (i64 p = 0; p < this->rows.windows; ++p) fill_row(x, p, out + p * this->columns.windows);
    });
    return true;
  }

 private:
  bool halve() const {
    this->for_tiles([this](i64 window, i64 count, const T* upper, const T* lower) {
      T* const to = this->out + window;
#pragma GCC ivdep
      for (i64 k = 0; k < count; ++k) {
        to[k] = larger_of(larger_of(larger_of(upper[2 * k], upper[2 * k + 1]), lower[2 * k]), lower[2 * k + 1]);
      }
    });
    return true;
  }
  void fill_row(const T* x, i64 p, T* out) const {
    const i64 count = this->columns.windows;
    for (i64 q = 0; q < count; ++q) out[q] = Limits<T>::lowest();
    this->for_offsets(p, 0, count, [=](auto stride, i64 place, i64 first, i64 end) {
#pragma GCC ivdep
      for (i64 q = first; q < end; ++q) out[q] = larger_of(out[q], x[place + q * stride]);
    });
  }
};

// What looks for the place of the largest element: each(windows' number, its place in the plane or -1) for all windows
// of a plane.
template <class Out, class T>
struct MaxPoolPlaces : PoolTask<Out, T> {
  template <class Each>
  void for_places(const T* x, const Each& each) const {
    T best[WINDOWS_AT_ONCE];
    i64 at[WINDOWS_AT_ONCE];
    for (i64 p = 0; p < this->rows.windows; ++p) {
      for (i64 begin = 0; begin < this->columns.windows; begin += WINDOWS_AT_ONCE) {
        const i64 end = PoolAxis::smaller(this->columns.windows, begin + WINDOWS_AT_ONCE);
        find(x, p, begin, end, best, at);
        for (i64 q = begin; q < end; ++q) each(p * this->columns.windows + q, at[q - begin]);
      }
    }
  }

 private:
  void find(const T* x, i64 p, i64 begin, i64 end, T* best, i64* at) const {
    for (i64 k = 0; k < end - begin; ++k) best[k] = Limits<T>::lowest(), at[k] = -1;
    this->for_offsets(p, begin, end, [=](auto stride, i64 place, i64 first, i64 last) {
#pragma GCC ivdep
      for (i64 q = first; q < last; ++q) {
        const i64 from = place + q * stride, k = q - begin;
        const bool wins = bool(int(beats(x[from], best[k])) | int(at[k] < 0));
        best[k] = wins ? x[from] : best[k];
        at[k] = wins ? from : at[k];
      }
    });
  }
};

template <class T>
struct MaxPoolGrad : MaxPoolPlaces<T, T> {
  bool operator()() {
    if (this->is_tiled()) return spread();
    this->for_planes([this](i64 plane) {
      const T *const x = this->x + plane * this->plane_size(), *const g = this->g + plane * this->window_count();
      T* const out = this->out + plane * this->plane_size();
      memset(out, 0, size_t(this->plane_size()) * sizeof(T));
      this->for_places(x, [=](i64 window, i64 at) {
        if (at >= 0) out[at] += g[window];
      });
    });
    return true;
  }

 private:
  // Where windows tile the plane each element is read and written once.
  bool spread() const {
    this->for_tiles([this](i64 window, i64 count, const T* upper, const T* lower) {
      T above[2 * this->TILE], below[2 * this->TILE];
      const T* const g = this->g + window;
#pragma GCC ivdep
      for (i64 k = 0; k < count; ++k) {
        const T a = upper[2 * k], b = upper[2 * k + 1], c = lower[2 * k], d = lower[2 * k + 1];
        const T best = larger_of(a, b), best_of_three = larger_of(best, c);
        const T of_d = beats(d, best_of_three) ? g[k] : T(0), not_d = beats(d, best_of_three) ? T(0) : g[k];
        const T of_c = beats(c, best) ? not_d : T(0), of_row = beats(c, best) ? T(0) : not_d;
        above[2 * k] = beats(b, a) ? T(0) : of_row;
        above[2 * k + 1] = beats(b, a) ? of_row : T(0);
        below[2 * k] = of_c;
        below[2 * k + 1] = of_d;
      }
      this->unpack(window, count, above, below, this->out);
    });
    return true;
  }
};

// Values of g, which lies as x does, where x is largest.
template <class T>
struct MaxPoolPick : MaxPoolPlaces<T, T> {
  bool operator()() {
    this->for_planes([this](i64 plane) {
      const T* const from = this->g + plane * this->plane_size();
      T* const out = this->out + plane * this->window_count();
      this->for_places(this->x + plane * this->plane_size(),
                       [=](i64 window, i64 at) { out[window] = at < 0 ? T(0) : from[at]; });
    });
    return true;
  }
};

template <class T>
struct MaxPoolIndices : MaxPoolPlaces<i64, T> {
  bool operator()() {
    this->for_planes([this](i64 plane) {
      i64* const out = this->out + plane * this->window_count();
      this->for_places(this->x + plane * this->plane_size(), [=](i64 window, i64 at) { out[window] = at; });
    });
    return true;
  }
};

// --- the mean --------------------------------------------------------------------------------------------------------

template <class T>
struct MeanPoolTask : PoolTask<T, T> {
  i64 divisor;  // of all windows; 0: the number of elements
  bool with_padding;

  // What the sum of window (p, q) is divided by.
  T divisor_of(i64 p, i64 q) const {
    if (divisor != 0) return T(divisor);
    const i64 count = this->rows.length(p, with_padding) * this->columns.length(q, with_padding);
    return T(count < 1 ? 1 : count);
  }
};

template <class T>
struct AvgPool : MeanPoolTask<T> {
  bool operator()() {
    this->for_planes([this](i64 plane) {
      const T* const x = this->x + plane * this->plane_size();
      const i64 count = this->columns.windows;
      for (i64 p = 0; p < this->rows.windows; ++p) {
        T* const out = this->out + plane * this->window_count() + p * count;
        for (i64 q = 0; q < count; ++q) out[q] = T(0);
        this->for_offsets(p, 0, count, [=](auto stride, i64 place, i64 first, i64 end) {
#pragma GCC ivdep
          for (i64 q = first; q < end; ++q) out[q] += x[place + q * stride];
        });
        for (i64 q = 0; q < count; ++q) out[q] /= this->divisor_of(p, q);
      }
    });
    return true;
  }
};

template <class T>
struct AvgPoolGrad : MeanPoolTask<T> {
  bool operator()() {
    this->for_planes([this](i64 plane) {
      T* const out = this->out + plane * this->plane_size();
      const T* const g = this->x + plane * this->window_count();
      memset(out, 0, size_t(this->plane_size()) * sizeof(T));
      for (i64 p = 0; p < this->rows.windows; ++p) {
        for (i64 begin = 0; begin < this->columns.windows; begin += WINDOWS_AT_ONCE) spread(p, begin, g, out);
      }
    });
    return true;
  }

 private:
  void spread(i64 p, i64 begin, const T* g, T* out) const {
    const i64 count = this->columns.windows, end = PoolAxis::smaller(count, begin + WINDOWS_AT_ONCE);
    T share[WINDOWS_AT_ONCE];
    for (i64 q = begin; q < end; ++q) share[q - begin] = g[p * count + q] / this->divisor_of(p, q);
    const T* const shares = share;
    this->for_offsets(p, begin, end, [=](auto stride, i64 place, i64 first, i64 last) {
#pragma GCC ivdep
      for (i64 q = first; q < last; ++q) out[place + q * stride] += shares[q - begin];
    });
  }
};

// --- arguments -------------------------------------------------------------------------------------------------------

// The two numbers of an option that is a tuple.
inline bool read_pair(Arguments& arguments, const char* option, i64& first, i64& second) {
  PyObject* const pair = arguments.optional(option);
  if (pair->type != &PyTuple_Type || PyTuple_Size(pair) != 2) return false;
  first = PyLong_AsLongLong(PyTuple_GetItem(pair, 0));
  second = PyLong_AsLongLong(PyTuple_GetItem(pair, 1));
  return true;
}

// The axes of windows, counted in `windows`, that are laid over the planes of `planes`.
inline bool read_axes(Arguments& arguments, const Array& windows, const Array& planes, PoolAxis& rows,
                      PoolAxis& columns) {
  if (windows.ndim != 4 || planes.ndim != 4) return false;
  rows.size = planes.shape[2], columns.size = planes.shape[3];
  rows.windows = windows.shape[2], columns.windows = windows.shape[3];
  rows.dilation = columns.dilation = 1;
  return read_pair(arguments, "kernel_size", rows.kernel, columns.kernel) &&
         read_pair(arguments, "stride", rows.stride, columns.stride) &&
         read_pair(arguments, "padding", rows.padding, columns.padding) &&
         (is_none(arguments.optional("dilation")) ||
          read_pair(arguments, "dilation", rows.dilation, columns.dilation));
}

// Which arrays a kernel has: (out, x), (out, g, x) with g of windows or of planes; and which of them is of windows.
enum class PoolKind { forward, grad_with_x, pick, grad };

template <class Kernel, class Out, class T, PoolKind kind>
Kernel* add_pool(Arguments& arguments, Tape& tape) {
  constexpr bool has_both = kind == PoolKind::grad_with_x || kind == PoolKind::pick;
  const Array *out = arguments.array(0), *first = arguments.array(1), *x = arguments.array(has_both ? 2 : 1);
  if (!is_dense<Out>(out) || !is_dense<T>(first) || !is_dense<T>(x)) return nullptr;
  const Array& windows = kind == PoolKind::grad_with_x || kind == PoolKind::grad ? *first : *out;
  const Array& planes = kind == PoolKind::grad ? *out : *x;
  PoolAxis rows, columns;
  if (!read_axes(arguments, windows, planes, rows, columns)) return nullptr;
  auto& task = tape.add<Kernel>(out->size() + x->size());
  task.out = reinterpret_cast<Out*>(out->data);
  task.g = reinterpret_cast<const T*>(first->data);
  task.x = reinterpret_cast<const T*>(x->data);
  task.planes = planes.shape[0] * planes.shape[1];
  task.rows = rows;
  task.columns = columns;
  return &task;
}

template <template <class> class Kernel, PoolKind kind>
bool prepare_max_pool(Arguments& arguments, Tape& tape) {
  return add_pool<Kernel<float>, float, float, kind>(arguments, tape) != nullptr ||
         add_pool<Kernel<double>, double, double, kind>(arguments, tape) != nullptr;
}

inline bool prepare_max_pool_indices(Arguments& arguments, Tape& tape) {
  return add_pool<MaxPoolIndices<float>, i64, float, PoolKind::forward>(arguments, tape) != nullptr ||
         add_pool<MaxPoolIndices<double>, i64, double, PoolKind::forward>(arguments, tape) != nullptr;
}

template <class Kernel, class T, PoolKind kind>
bool prepare_avg_pool_of(Arguments& arguments, Tape& tape) {
  const bool overridden = !is_none(arguments.optional("divisor_override"));
  const i64 divisor = overridden ? arguments.integer("divisor_override") : 0;
  const bool with_padding = arguments.integer("count_include_pad") != 0;
  if (!arguments.readable()) return false;
  Kernel* const task = add_pool<Kernel, T, T, kind>(arguments, tape);
  if (task == nullptr) return false;
  task->divisor = divisor;
  task->with_padding = with_padding;
  return true;
}

template <template <class> class Kernel, PoolKind kind>
bool prepare_avg_pool(Arguments& arguments, Tape& tape) {
  return prepare_avg_pool_of<Kernel<float>, float, kind>(arguments, tape) ||
         prepare_avg_pool_of<Kernel<double>, double, kind>(arguments, tape);
}

}  // namespace cpu
