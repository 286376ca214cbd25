// What the kernels of attention share: where the matrices of a head lie, which scores count, and a softmax that goes
// along the keys tile by tile.
//
// Sources: Milakov and Gimelshein, "Online normalizer calculation for softmax", 2018; Dao et al., "FlashAttention",
// NeurIPS 2022; Dao, "FlashAttention-2", ICLR 2024.
//
// A block has a tile of TILE queries and TILE keys in hand, never all scores. Its warps share the tile's rows, and each
// score is a cell that one thread keeps in a register. Which cells are whose is said by a type of cells:
//   Number               the type of a cell, in which is computed
//   at(i, j)             a cell of the thread, of ROWS x COLUMNS
//   row(i), column(j)    where that is in the tile
//   LANES                neighbouring lanes that share a row
#pragma once
#include "softmax.cuh"

constexpr int TILE = 64;

// --- where things lie ------------------------------------------------------------------------------------------------

// Strides in elements.
struct Strides {
  i64 batch, head, row, column;
};

// The matrix of one head, or what is left of it from some row and column on.
template <class T>
struct Matrix {
  T* data;
  i64 row, column;  // strides
  int rows, columns;

  FN Matrix from(int first_row, int first_column) const {
    return {data + first_row * row + first_column * column, row, column, rows - first_row, columns - first_column};
  }
};

// One of the heads of a batch.
struct Head {
  i64 batch, number;
};

template <class T, class Data>
FN Matrix<T> matrix_of(Data* data, const Strides& strides, Head head, i64 rows, i64 columns) {
  return {static_cast<T*>(data) + head.batch * strides.batch + head.number * strides.head, strides.row, strides.column,
          int(rows), int(columns)};
}

enum MaskKind : i64 { NO_MASK, MAY_ATTEND, ADDED };  // the latter two: of bools, and of numbers to add to the scores

// Packed by `attention.Problem`.
struct Problem {
  const void* mask;
  double scale;  // of the products of queries and keys
  i64 heads, key_heads;  // of queries; of keys and values, each of which serves as many heads of queries
  i64 queries, keys;
  i64 size, value_size;  // of a query and a key; of a value
  i64 is_causal, mask_kind;
  i64 tiles, slices;  // how the grid is divided: tiles of rows, and slices of the columns of the result
  Strides mask_at;

  FN i64 group() const { return heads / key_heads; }
  FN Head head_of_keys(Head head) const { return {head.batch, head.number / group()}; }

  // How many keys any of the TILE queries from `query` on may attend to.
  FN int keys_of_tile(int query) const { return is_causal ? min(int(keys), query + TILE) : int(keys); }
};

// What a block computes: a tile of the rows of a head, and a slice of their columns.
struct Part {
  int tile, slice;
  Head head;

  FN Part(const Problem& problem, i64 heads) {
    const u32 slice_and_head = blockIdx.x / u32(problem.tiles), number = slice_and_head / u32(problem.slices);
    tile = int(blockIdx.x - slice_and_head * u32(problem.tiles));
    slice = int(slice_and_head - number * u32(problem.slices));
    head.batch = number / u32(heads);
    head.number = number - u32(head.batch) * u32(heads);
  }
};

// --- scores ----------------------------------------------------------------------------------------------------------

constexpr double LOG2_E = 1.4426950408889634, LN_2 = 0.6931471805599453;

// How products become logits of a head, to base 2: scaled, and then the mask is added, or -inf where a query may not
// attend.
template <class T>
class Mask {
  using C = Compute<T>;

 public:
  const C scale;  // of the products

  FN Mask(const Problem& problem, Head head)
      : scale(C(problem.scale * LOG2_E)),
        problem_(problem),
        offset_(head.batch * problem.mask_at.batch + head.number * problem.mask_at.head) {}

  // Whether that is 0 all over the tile that begins there.
  FN bool is_absent(int query, int key) const {
    const bool is_inside = query + TILE <= problem_.queries && key + TILE <= problem_.keys;
    return problem_.mask_kind == NO_MASK && is_inside && (!problem_.is_causal || key + TILE <= query + 1);
  }

  FN C operator()(int query, int key) const {
    if (query >= problem_.queries || key >= problem_.keys || (problem_.is_causal && key > query)) {
      return Limits<C>::lowest();
    }
    const i64 at = offset_ + query * problem_.mask_at.row + key * problem_.mask_at.column;
    if (problem_.mask_kind == MAY_ATTEND) {
      return static_cast<const bool*>(problem_.mask)[at] ? C(0) : Limits<C>::lowest();
    }
    return problem_.mask_kind == ADDED ? widen(static_cast<const T*>(problem_.mask)[at]) * C(LOG2_E) : C(0);
  }

 private:
  const Problem& problem_;
  i64 offset_;
};

// Call visit(cell, row, column) for each cell of a thread.
template <class Cells, class Visit>
FN void each_cell(Cells& cells, Visit visit) {
#pragma unroll
  for (int i = 0; i < Cells::ROWS; ++i) {
#pragma unroll
    for (int j = 0; j < Cells::COLUMNS; ++j) visit(cells.at(i, j), cells.row(i), cells.column(j));
  }
}

// Multiply the rows of cells by a factor each.
template <class Cells>
FN void scale_rows(Cells& cells, const typename Cells::Number (&factor)[Cells::ROWS]) {
#pragma unroll
  for (int i = 0; i < Cells::ROWS; ++i) {
#pragma unroll
    for (int j = 0; j < Cells::COLUMNS; ++j) cells.at(i, j) *= factor[i];
  }
}

// F over the cells of a row, in each lane that has some of them.
template <class F, class Cells, class C>
FN C fold_row(C value) {
#pragma unroll
  for (int distance = Cells::LANES / 2; distance > 0; distance /= 2) {
    value = F{}(value, __shfl_xor_sync(FULL_WARP, value, distance));
  }
  return value;
}

// The softmax of rows whose logits, to base 2, come tile by tile, and the weighted sums that go with it.
template <class Cells>
class RunningSoftmax {
  using C = typename Cells::Number;

 public:
  FN RunningSoftmax() {
#pragma unroll
    for (int i = 0; i < Cells::ROWS; ++i) {
      top_[i] = Limits<C>::lowest();
      total_[i] = C(0);
    }
  }

  // Makes weights of the next tile's logits, and brings the sums so far to the same measure.
  template <class Sums>
  FN void next(Cells& cells, Sums& sums) {
    C shrink[Cells::ROWS];
#pragma unroll
    for (int i = 0; i < Cells::ROWS; ++i) {
      C higher = cells.at(i, 0);
#pragma unroll
      for (int j = 1; j < Cells::COLUMNS; ++j) higher = formulas::maximum{}(higher, cells.at(i, j));
      higher = formulas::maximum{}(top_[i], fold_row<formulas::maximum, Cells>(higher));
      const C shift = shift_of(higher);
      shrink[i] = ::exp2(top_[i] - shift);
      top_[i] = higher;
      total_[i] *= shrink[i];
#pragma unroll
      for (int j = 0; j < Cells::COLUMNS; ++j) {
        cells.at(i, j) = ::exp2(cells.at(i, j) - shift);
        total_[i] += cells.at(i, j);
      }
    }
    scale_rows(sums, shrink);
  }

  // After the last tile: divides the sums by the totals. A row that attends to nothing is 0.
  template <class Sums>
  FN void finish(Sums& sums) {
    C factor[Cells::ROWS];
#pragma unroll
    for (int i = 0; i < Cells::ROWS; ++i) {
      total_[i] = fold_row<formulas::add, Cells>(total_[i]);
      factor[i] = total_[i] == C(0) ? C(0) : C(1) / total_[i];
    }
    scale_rows(sums, factor);
  }

  // Writes the logarithms, to base e, of the rows' sums of exponentials: inf for a row that attends to nothing, so that
  // its weights, found again, are 0.
  FN void store(const Matrix<C>& out) const {
#pragma unroll
    for (int i = 0; i < Cells::ROWS; ++i) {
      if (Cells::column(0) != 0 || Cells::row(i) >= out.rows) continue;
      out.data[Cells::row(i) * out.row] =
          total_[i] == C(0) ? Limits<C>::highest() : top_[i] * C(LN_2) + ::log(total_[i]);
    }
  }

 private:
  C top_[Cells::ROWS];
  C total_[Cells::ROWS];  // of this thread's cells, until the end
};

// Makes logits to base 2 of products: times the scale, plus the mask. With `AreKeys` the rows of the tile are keys, else
// queries. The mask passes through shared memory, by one loop and not by a thread's cells, each of which would keep
// addresses. `scratch` is by column and row of the tile.
template <bool AreKeys, int THREADS, class Cells, class C, int PITCH, class T>
FN void make_logits(C (&scratch)[TILE][PITCH], Cells& cells, const Mask<T>& mask, int query, int key) {
  each_cell(cells, [&](C& cell, int, int) { cell *= mask.scale; });
  if (mask.is_absent(query, key)) return;
#pragma unroll 1
  for (int n = int(threadIdx.x); n < TILE * TILE; n += THREADS) {
    const int of_query = n / TILE, of_key = n % TILE;
    const C added = mask(query + of_query, key + of_key);
    if constexpr (AreKeys) scratch[of_query][of_key] = added;
    else scratch[of_key][of_query] = added;
  }
  __syncthreads();
  each_cell(cells, [&](C& cell, int row, int column) {
    const C added = scratch[column][row];
    cell = added == Limits<C>::lowest() ? added : cell + added;  // what may not be seen may be NaN
  });
}

// Write the cells that lie within a matrix, times a factor.
template <class Cells, class T>
FN void store(const Matrix<T>& out, Cells& cells, typename Cells::Number factor) {
  each_cell(cells, [&](typename Cells::Number cell, int row, int column) {
    if (row < out.rows && column < out.columns) out.data[row * out.row + column * out.column] = narrow<T>(cell * factor);
  });
}

// The weight of a logit, to base 2, in a row with this logarithm of the sum, to base e.
template <class C>
FN C weight_of(C logit, C log_sum) {
  return ::exp2(logit - log_sum * C(LOG2_E));
}

// --- arguments: packed by tensorlite/backends/kernels/attention.py ---------------------------------------------------

struct Attention {
  void* out;       // (batch, heads, queries, value_size)
  void* log_sums;  // in computing type, (batch, heads, queries)
  const void *q, *k, *v;
  Problem problem;
  Strides out_at, log_sums_at, q_at, k_at, v_at;
};

struct AttentionGrad {
  void *q_grad, *k_grad, *v_grad;
  const void *g, *q, *k, *v;
  const void* log_sums;
  const void* deltas;  // in computing type, (batch, heads, queries): sums of g times the values that came out
  Problem problem;
  Strides q_grad_at, k_grad_at, v_grad_at, g_at, q_at, k_at, v_at, log_sums_at, deltas_at;
};

// What is known of the queries of a head from before: nothing of those beyond the last one, which have no weight.
template <class C>
class RowNumbers {
 public:
  FN RowNumbers(const AttentionGrad& args, Head head)
      : log_sums_(matrix_of<const C>(args.log_sums, args.log_sums_at, head, args.problem.queries, 1)),
        deltas_(matrix_of<const C>(args.deltas, args.deltas_at, head, args.problem.queries, 1)) {}

  FN C log_sum(int query) const { return at(log_sums_, query); }
  FN C delta(int query) const { return at(deltas_, query); }

 private:
  static FN C at(const Matrix<const C>& numbers, int query) {
    return query < numbers.rows ? numbers.data[query * numbers.row] : C(0);
  }

  Matrix<const C> log_sums_, deltas_;
};

struct AttentionDeltas {
  void* deltas;  // dense
  const void *g, *values;
  i64 count;  // of rows in all heads
  i64 heads, queries, columns;
  Strides g_at, values_at;
};
