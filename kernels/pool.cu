// Pooling of dense planes: the largest or the mean of each window, and the derivatives.
//
// A thread gathers what one element of the result is made of, so nothing is added atomically. Where the windows of
// max pooling do not overlap, the derivative takes one pass: a thread owns a cell of `stride` elements, in which one
// window lies, and writes all of it. Where they do, a first kernel notes where each window is largest.
#include "dims.cuh"

// How windows lie along one dimension of a plane. Places in a plane fit 32 bits.
struct PoolAxis {
  i32 size, windows, kernel, stride, padding, dilation;

  // The windows first ... last may hold the element at a place, and no others.
  FN i32 first_around(i32 place) const {
    const i32 behind = place + padding - (kernel - 1) * dilation;
    return behind <= 0 ? 0 : (behind + stride - 1) / stride;
  }
  FN i32 last_around(i32 place) const { return min((place + padding) / stride, windows - 1); }

  // How many elements a window has, of the dimension or also of its padding.
  FN i32 length(i32 window, bool with_padding) const {
    const i32 start = window * stride - padding, margin = with_padding ? padding : 0;
    return min(start + kernel, size + margin) - max(start, -margin);
  }
};

// Packed by tensorlite/backends/kernels/pool.py.
struct Pool {
  void* out;
  const void *g, *x;   // x: whose windows are looked at; g: another array, or null
  i64 threads;         // one for each element of the grid that `across` and `down` divide
  Divider across;      // columns of that grid
  Divider down;        // its rows; more rows are those of the next plane
  PoolAxis rows, columns;
  i64 divisor;         // of means: a number for all windows, or 0 for their number of elements
  i64 with_padding;    // of means: whether padding counts as elements

  FN i64 plane_size() const { return i64(rows.size) * columns.size; }
  FN i64 window_count() const { return i64(rows.windows) * columns.windows; }
};

// The place of a thread in its grid: (plane, row, column).
struct GridPlace {
  i64 plane;
  i32 row, column;

  FN GridPlace(const Pool& args, u32 thread) {
    const u32 line = quotient(thread, args.across), of_plane = quotient(line, args.down);
    column = i32(thread - line * u32(args.across.divisor));
    row = i32(line - of_plane * u32(args.down.divisor));
    plane = of_plane;
  }
};

// body(place in the plane) for the elements of window (p, q), row by row.
template <class Body>
FN void for_window(const Pool& args, i32 p, i32 q, const Body& body) {
  for (i32 i = 0; i < args.rows.kernel; ++i) {
    const i32 row = p * args.rows.stride - args.rows.padding + i * args.rows.dilation;
    if (row < 0 || row >= args.rows.size) continue;
    for (i32 j = 0; j < args.columns.kernel; ++j) {
      const i32 column = q * args.columns.stride - args.columns.padding + j * args.columns.dilation;
      if (column >= 0 && column < args.columns.size) body(row * args.columns.size + column);
    }
  }
}

// body(number of a window) for the windows that may hold the element at (row, column), row by row.
template <class Body>
FN void for_windows_around(const Pool& args, i32 row, i32 column, const Body& body) {
  const i32 last = args.rows.last_around(row), last_of_row = args.columns.last_around(column);
  for (i32 p = args.rows.first_around(row); p <= last; ++p) {
    for (i32 q = args.columns.first_around(column); q <= last_of_row; ++q) body(p, q);
  }
}

// --- the largest -----------------------------------------------------------------------------------------------------

// The largest element of a window and its place in the plane, -1 where the window has no elements. Of equals the first
// one is kept, and NaN over all.
template <class T>
struct Largest {
  Compute<T> value = Limits<Compute<T>>::lowest();
  i32 place = -1;

  FN Largest(const Pool& args, const T* plane, i32 p, i32 q) {
    for_window(args, p, q, [&](i32 at) {
      const Compute<T> candidate = widen(plane[at]);
      if (place < 0 || candidate > value || candidate != candidate) {
        value = candidate;
        place = at;
      }
    });
  }
};

// What is written for a window: its largest value, where that is, or what g has there.
struct largest_value {
  template <class Out, class T>
  static FN Out of(const Largest<T>& found, const T*) { return narrow<Out>(found.value); }
};
struct largest_place {
  template <class Out, class T>
  static FN Out of(const Largest<T>& found, const T*) { return Out(found.place); }
};
struct picked_value {
  template <class Out, class T>
  static FN Out of(const Largest<T>& found, const T* g) { return found.place < 0 ? Out{} : g[found.place]; }
};

// The grid is that of windows.
template <class Written, class Out, class T>
__global__ void max_pool(const Pool args) {
  const u32 thread = thread_number<u32>();
  if (thread >= args.threads) return;
  const GridPlace at(args, thread);
  const i64 plane = at.plane * args.plane_size();
  const Largest<T> found(args, static_cast<const T*>(args.x) + plane, at.row, at.column);
  static_cast<Out*>(args.out)[thread] = Written::template of<Out>(found, static_cast<const T*>(args.g) + plane);
}

// The grid is that of cells of rows.stride x columns.stride elements, the first of which begins `padding` before the
// plane. A cell is that of the window of its number, if there is one, which does not reach beyond it.
template <class T>
__global__ void max_pool_grad_cells(const Pool args) {
  const u32 thread = thread_number<u32>();
  if (thread >= args.threads) return;
  const GridPlace at(args, thread);
  const i64 size = args.plane_size();
  T* out = static_cast<T*>(args.out) + at.plane * size;
  i32 place = -1;
  T slope{};
  if (at.row < args.rows.windows && at.column < args.columns.windows) {
    place = Largest<T>(args, static_cast<const T*>(args.x) + at.plane * size, at.row, at.column).place;
    slope = static_cast<const T*>(args.g)[at.plane * args.window_count() + at.row * args.columns.windows + at.column];
  }
  const i32 top = at.row * args.rows.stride - args.rows.padding;
  const i32 left = at.column * args.columns.stride - args.columns.padding;
  for (i32 row = max(top, 0); row < min(top + args.rows.stride, args.rows.size); ++row) {
    for (i32 column = max(left, 0); column < min(left + args.columns.stride, args.columns.size); ++column) {
      const i32 here = row * args.columns.size + column;
      out[here] = here == place ? slope : T{};
    }
  }
}

// The grid is that of elements. x holds where each window is largest, as `max_pool<largest_place, i32, T>` wrote it.
template <class T>
__global__ void max_pool_grad(const Pool args) {
  const u32 thread = thread_number<u32>();
  if (thread >= args.threads) return;
  const GridPlace at(args, thread);
  const i64 windows = at.plane * args.window_count();
  const T* g = static_cast<const T*>(args.g) + windows;
  const i32* places = static_cast<const i32*>(args.x) + windows;
  const i32 here = at.row * args.columns.size + at.column;
  Compute<T> total = 0;
  for_windows_around(args, at.row, at.column, [&](i32 p, i32 q) {
    const i32 window = p * args.columns.windows + q;
    if (places[window] == here) total += widen(g[window]);
  });
  static_cast<T*>(args.out)[thread] = narrow<T>(total);
}

// --- the mean --------------------------------------------------------------------------------------------------------

// What the sum of window (p, q) is divided by.
template <class C>
FN C divisor_of(const Pool& args, i32 p, i32 q) {
  if (args.divisor != 0) return C(args.divisor);
  const i32 count = args.rows.length(p, args.with_padding != 0) * args.columns.length(q, args.with_padding != 0);
  return C(max(count, 1));
}

// The grid is that of windows.
template <class T>
__global__ void avg_pool(const Pool args) {
  using C = Compute<T>;
  const u32 thread = thread_number<u32>();
  if (thread >= args.threads) return;
  const GridPlace at(args, thread);
  const T* plane = static_cast<const T*>(args.x) + at.plane * args.plane_size();
  C total = 0;
  for_window(args, at.row, at.column, [&](i32 place) { total += widen(plane[place]); });
  static_cast<T*>(args.out)[thread] = narrow<T>(total / divisor_of<C>(args, at.row, at.column));
}

// The grid is that of elements. x is the derivative in the means.
template <class T>
__global__ void avg_pool_grad(const Pool args) {
  using C = Compute<T>;
  const u32 thread = thread_number<u32>();
  if (thread >= args.threads) return;
  const GridPlace at(args, thread);
  const T* g = static_cast<const T*>(args.x) + at.plane * args.window_count();
  C total = 0;
  for_windows_around(args, at.row, at.column, [&](i32 p, i32 q) {
    total += widen(g[p * args.columns.windows + q]) / divisor_of<C>(args, p, q);
  });
  static_cast<T*>(args.out)[thread] = narrow<T>(total);
}
