// Attention, and its derivatives: softmax(q · kᵀ · scale + mask) · v for every dtype, head size and layout.
//
// Two factors of a product meet in strips in shared memory, as in matmul.cu; those of 16-bit floats are multiplied as
// float. Weights of attention wait in shared memory between the product that makes them and the one that takes them.
#include "attention.cuh"
#include "strips.cuh"

// --- tiles of products -----------------------------------------------------------------------------------------------

constexpr int ROW_LANES = 4, COLUMN_LANES = 8;  // how a warp shares the cells of its rows

template <class C>
constexpr int PACK = 16 / sizeof(C);  // neighbouring rows of a thread, and neighbouring columns
template <class C>
constexpr int THREADS = TILE / (ROW_LANES * PACK<C>) * WARP;
template <class C>
constexpr int PITCH = TILE + PACK<C>;  // of strips: what is read as a pack lies at a multiple of it
template <class C>
constexpr int STEP = 64 / sizeof(C);  // terms of the products in shared memory at a time

template <class C>
using StripRow = C[PITCH<C>];

// The cells of a thread in a tile that is WIDTH columns wide.
template <class C, int WIDTH = TILE>
struct Packs {
  using Number = C;
  static constexpr int ROWS = PACK<C>, COLUMNS = WIDTH / COLUMN_LANES, LANES = COLUMN_LANES;
  static_assert(COLUMNS % PACK<C> == 0, "the columns of a thread are packs");

  C at[ROWS][COLUMNS];

  static FN int row(int i) {
    const int warp = int(threadIdx.x) / WARP, lane = int(threadIdx.x) % WARP;
    return (warp * ROW_LANES + lane / COLUMN_LANES) * ROWS + i;
  }
  static FN int column(int j) {
    return (j / PACK<C> * COLUMN_LANES + int(threadIdx.x) % COLUMN_LANES) * PACK<C> + j % PACK<C>;
  }
};

// The shared memory of a block: strips of both factors, and the weights by column of the tile, whose rows serve as those
// of a strip.
template <class C, int WIDTH>
struct Shared {
  alignas(16) StripRow<C> x[STEP<C>];
  alignas(16) C y[STEP<C>][larger(TILE, WIDTH) + PACK<C>];
  alignas(16) StripRow<C> weights[TILE];
};

template <class C>
FN Pack<C, PACK<C>> pack_at(const C& first) {
  return *reinterpret_cast<const Pack<C, PACK<C>>*>(&first);
}

// sum += x · yᵀ over STEP terms, from strips that hold a term in each row.
template <class C, int WIDTH, int Y_PITCH>
FN void add_products(Packs<C, WIDTH>& sum, const StripRow<C>* x, const C (*y)[Y_PITCH]) {
#pragma unroll 4
  for (int term = 0; term < STEP<C>; ++term) {
    const auto of_x = pack_at(x[term][sum.row(0)]);
#pragma unroll
    for (int first = 0; first < sum.COLUMNS; first += PACK<C>) {
      const auto of_y = pack_at(y[term][sum.column(first)]);
#pragma unroll
      for (int i = 0; i < sum.ROWS; ++i) {
#pragma unroll
        for (int j = 0; j < PACK<C>; ++j) sum.at[i][first + j] += of_x.at[i] * of_y.at[j];
      }
    }
  }
}

// x · yᵀ, of TILE rows of each over all their columns.
template <class C, int WIDTH, class T>
FN Packs<C> product(Shared<C, WIDTH>& shared, const Matrix<const T>& x, const Matrix<const T>& y) {
  Packs<C> cells = {};
  for (i64 first = 0; first < x.columns; first += STEP<C>) {
    const i64 left = x.columns - first;
    load_strip<THREADS<C>, TILE>(shared.x, x.data + first * x.column, x.column, x.row, left, x.rows);
    load_strip<THREADS<C>, TILE>(shared.y, y.data + first * y.column, y.column, y.row, left, y.rows);
    __syncthreads();
    add_products(cells, shared.x, shared.y);
    __syncthreads();
  }
  return cells;
}

// sum += weights · z, of TILE rows of z and WIDTH of its columns.
template <class C, int WIDTH, class T>
FN void add_weighted(Shared<C, WIDTH>& shared, Packs<C, WIDTH>& sum, const Matrix<const T>& z) {
  const int terms = int(min(z.rows, i64(TILE)));
  for (int first = 0; first < terms; first += STEP<C>) {
    load_strip<THREADS<C>, WIDTH>(shared.y, z.data + first * z.row, z.row, z.column, z.rows - first, z.columns);
    __syncthreads();
    add_products(sum, shared.weights + first, shared.y);
    __syncthreads();
  }
}

// weights = cells, in packs of a column's neighbouring rows.
template <class C>
FN void put_weights(StripRow<C>* weights, const Packs<C>& cells) {
#pragma unroll
  for (int j = 0; j < cells.COLUMNS; ++j) {
    Pack<C, PACK<C>> pack;
#pragma unroll
    for (int i = 0; i < cells.ROWS; ++i) pack.at[i] = cells.at[i][j];
    *reinterpret_cast<Pack<C, PACK<C>>*>(&weights[cells.column(j)][cells.row(0)]) = pack;
  }
}

// Makes logits to base 2 of products: times the scale, plus the mask. With `AreKeys` the rows of the tile are keys, else
// queries. The mask passes through the memory of the weights, by one loop and not by a thread's cells, each of which
// would keep addresses.
template <bool AreKeys, class C, class T>
FN void make_logits(StripRow<C>* weights, Packs<C>& cells, const Mask<T>& mask, i64 query, i64 key) {
  each_cell(cells, [&](C& cell, int, int) { cell *= mask.scale; });
  if (mask.is_absent(query, key)) return;
#pragma unroll 1
  for (int n = int(threadIdx.x); n < TILE * TILE; n += THREADS<C>) {
    const int of_query = n / TILE, of_key = n % TILE;
    const C added = mask(query + of_query, key + of_key);
    if constexpr (AreKeys) weights[of_query][of_key] = added;
    else weights[of_key][of_query] = added;
  }
  __syncthreads();
  each_cell(cells, [&](C& cell, int row, int column) { cell += weights[column][row]; });
}

// --- forward ---------------------------------------------------------------------------------------------------------

// A block computes TILE rows of a head's result and WIDTH of its columns.
template <class T, int WIDTH>
__global__ void __launch_bounds__(THREADS<Compute<T>>, 1) attention(const Attention args) {
  using C = Compute<T>;
  __shared__ Shared<C, WIDTH> shared;
  const Problem& problem = args.problem;
  const Part part(problem, problem.heads);
  const i64 query = (problem.tiles - 1 - part.tile) * TILE;  // if it is causal, the last ones have most to do
  const i64 column = part.slice * WIDTH;
  const Head of_keys = problem.head_of_keys(part.head);
  const auto q = matrix_of<const T>(args.q, args.q_at, part.head, problem.queries, problem.size).from(query, 0);
  const auto k = matrix_of<const T>(args.k, args.k_at, of_keys, problem.keys, problem.size);
  const auto v = matrix_of<const T>(args.v, args.v_at, of_keys, problem.keys, problem.value_size).from(0, column);
  const Mask<T> mask(problem, part.head);

  RunningSoftmax<Packs<C>> softmax;
  Packs<C, WIDTH> sum = {};
  const i64 keys = problem.keys_of_tile(query);
  for (i64 key = 0; key < keys; key += TILE) {
    auto cells = product(shared, q, k.from(key, 0));
    make_logits<false>(shared.weights, cells, mask, query, key);
    softmax.next(cells, sum);
    put_weights(shared.weights, cells);
    add_weighted(shared, sum, v.from(key, 0));
  }

  softmax.finish(sum);
  const auto out = matrix_of<T>(args.out, args.out_at, part.head, problem.queries, problem.value_size);
  store(out.from(query, column), sum, C(1));
  if (part.slice == 0) {
    softmax.store(matrix_of<C>(args.log_sums, args.log_sums_at, part.head, problem.queries, 1).from(query, 0));
  }
}

// --- derivatives -----------------------------------------------------------------------------------------------------

// deltas = Σ g · values over each row, by a warp.
template <class T>
__global__ void attention_deltas(const AttentionDeltas args) {
  using C = Compute<T>;
  if (Warp::number() >= args.count) return;
  const i64 head = Warp::number() / args.queries, query = Warp::number() - head * args.queries;
  const Head of_query{head / args.heads, head % args.heads};
  const auto g = matrix_of<const T>(args.g, args.g_at, of_query, args.queries, args.columns).from(query, 0);
  const auto values = matrix_of<const T>(args.values, args.values_at, of_query, args.queries, args.columns)
                          .from(query, 0);
  C sum = C(0);
  for (i64 column = Warp::rank(); column < args.columns; column += WARP) {
    sum += widen(g.data[column * g.column]) * widen(values.data[column * values.column]);
  }
  sum = fold_warp<formulas::add>(sum);
  if (Warp::rank() == 0) static_cast<C*>(args.deltas)[Warp::number()] = sum;
}

// A block computes TILE rows of a head's derivative in q and WIDTH of its columns, going along the keys.
template <class T, int WIDTH>
__global__ void __launch_bounds__(THREADS<Compute<T>>, 1) attention_query_grad(const AttentionGrad args) {
  using C = Compute<T>;
  __shared__ Shared<C, WIDTH> shared;
  const Problem& problem = args.problem;
  const Part part(problem, problem.heads);
  const i64 query = (problem.tiles - 1 - part.tile) * TILE, column = part.slice * WIDTH;
  const Head of_keys = problem.head_of_keys(part.head);
  const auto g = matrix_of<const T>(args.g, args.g_at, part.head, problem.queries, problem.value_size).from(query, 0);
  const auto q = matrix_of<const T>(args.q, args.q_at, part.head, problem.queries, problem.size).from(query, 0);
  const auto k = matrix_of<const T>(args.k, args.k_at, of_keys, problem.keys, problem.size);
  const auto v = matrix_of<const T>(args.v, args.v_at, of_keys, problem.keys, problem.value_size);
  const Mask<T> mask(problem, part.head);
  const RowNumbers<C> numbers(args, part.head);

  C log_sum[PACK<C>], delta[PACK<C>];
#pragma unroll
  for (int i = 0; i < PACK<C>; ++i) {
    log_sum[i] = numbers.log_sum(query + Packs<C>::row(i));
    delta[i] = numbers.delta(query + Packs<C>::row(i));
  }
  Packs<C, WIDTH> sum = {};
  const i64 keys = problem.keys_of_tile(query);
  for (i64 key = 0; key < keys; key += TILE) {
    auto cells = product(shared, q, k.from(key, 0));
    make_logits<false>(shared.weights, cells, mask, query, key);
    each_cell(cells, [&](C& cell, int row, int) { cell = weight_of(cell, log_sum[row - cells.row(0)]); });
    put_weights(shared.weights, cells);
    cells = product(shared, g, v.from(key, 0));
    each_cell(cells, [&](C& cell, int row, int column) {
      cell = shared.weights[column][row] * (cell - delta[row - cells.row(0)]);
    });
    put_weights(shared.weights, cells);
    add_weighted(shared, sum, k.from(key, column));
  }
  const auto out = matrix_of<T>(args.q_grad, args.q_grad_at, part.head, problem.queries, problem.size);
  store(out.from(query, column), sum, C(problem.scale));
}

// A block computes TILE rows of the derivatives in a head of k and v and WIDTH of their columns, going along the queries
// of all heads that attend to it.
template <class T, int WIDTH>
__global__ void __launch_bounds__(THREADS<Compute<T>>, 1) attention_key_grad(const AttentionGrad args) {
  using C = Compute<T>;
  __shared__ Shared<C, WIDTH> shared;
  const Problem& problem = args.problem;
  const Part part(problem, problem.key_heads);
  const i64 key = part.tile * TILE, column = part.slice * WIDTH;
  const auto k = matrix_of<const T>(args.k, args.k_at, part.head, problem.keys, problem.size).from(key, 0);
  const auto v = matrix_of<const T>(args.v, args.v_at, part.head, problem.keys, problem.value_size).from(key, 0);

  Packs<C, WIDTH> k_sum = {}, v_sum = {};
  for (i64 member = 0; member < problem.group(); ++member) {
    const Head head{part.head.batch, part.head.number * problem.group() + member};
    const auto g = matrix_of<const T>(args.g, args.g_at, head, problem.queries, problem.value_size);
    const auto q = matrix_of<const T>(args.q, args.q_at, head, problem.queries, problem.size);
    const Mask<T> mask(problem, head);
    const RowNumbers<C> numbers(args, head);
    for (i64 query = problem.is_causal ? key : 0; query < problem.queries; query += TILE) {
      auto cells = product(shared, k, q.from(query, 0));
      make_logits<true>(shared.weights, cells, mask, query, key);
      each_cell(cells, [&](C& cell, int, int column) { cell = weight_of(cell, numbers.log_sum(query + column)); });
      put_weights(shared.weights, cells);
      add_weighted(shared, v_sum, g.from(query, column));
      cells = product(shared, v, g.from(query, 0));
      each_cell(cells, [&](C& cell, int row, int column) {
        cell = shared.weights[column][row] * (cell - numbers.delta(query + column));
      });
      put_weights(shared.weights, cells);
      add_weighted(shared, k_sum, q.from(query, column));
    }
  }
  const auto k_out = matrix_of<T>(args.k_grad, args.k_grad_at, part.head, problem.keys, problem.size);
  const auto v_out = matrix_of<T>(args.v_grad, args.v_grad_at, part.head, problem.keys, problem.value_size);
  store(k_out.from(key, column), k_sum, C(problem.scale));
  store(v_out.from(key, column), v_sum, C(1));
}
