// Attention, and its derivatives: softmax(q · kᵀ · scale + mask) · v.
//
// Products of matrices are those of an `Engine`: Strips of attention_strips.cuh, for everything, or TensorCores of
// attention_mma.cuh. It says what a block's threads hold (Cells: a tile of scores; Sums: a tile of the result, WIDTH
// columns wide) and what they share (Shared), and offers
//   rows(shared, x)                          the left factor of products, as it is held
//   product(shared, rows, y)                 x · yᵀ
//   keep(shared, cells)                      cells as weights
//   multiply(shared, cells, weights)         cells *= weights
//   add_weighted(shared, sums, weights, z)   sums += weights · z
// All but `keep` and `multiply` hold barriers, and end with one.
#include "attention_mma.cuh"
#include "attention_strips.cuh"

// --- forward ---------------------------------------------------------------------------------------------------------

// A block computes TILE rows of a head's result and WIDTH of its columns.
template <class Engine>
__global__ void __launch_bounds__(Engine::THREADS, 1) attention(const Attention args) {
  using T = typename Engine::Element;
  using C = typename Engine::C;
  __shared__ typename Engine::Shared shared;
  const Problem& problem = args.problem;
  const Part part(problem, problem.heads);
  const int query = (int(problem.tiles) - 1 - part.tile) * TILE;  // if it is causal, the last ones have most to do
  const int column = part.slice * Engine::WIDTH;
  const Head of_keys = problem.head_of_keys(part.head);
  const auto q = matrix_of<const T>(args.q, args.q_at, part.head, problem.queries, problem.size).from(query, 0);
  const auto k = matrix_of<const T>(args.k, args.k_at, of_keys, problem.keys, problem.size);
  const auto v = matrix_of<const T>(args.v, args.v_at, of_keys, problem.keys, problem.value_size).from(0, column);
  const Mask<T> mask(problem, part.head);

  const auto of_q = Engine::rows(shared, q);
  RunningSoftmax<typename Engine::Cells> softmax;
  typename Engine::Sums sum = {};
  const int keys = problem.keys_of_tile(query);
  for (int key = 0; key < keys; key += TILE) {
    auto cells = Engine::product(shared, of_q, k.from(key, 0));
    make_logits<false, Engine::THREADS>(shared.scratch, cells, mask, query, key);
    softmax.next(cells, sum);
    const auto weights = Engine::keep(shared, cells);
    Engine::add_weighted(shared, sum, weights, v.from(key, 0));
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
  const auto g = matrix_of<const T>(args.g, args.g_at, of_query, args.queries, args.columns).from(int(query), 0);
  const auto values = matrix_of<const T>(args.values, args.values_at, of_query, args.queries, args.columns)
                          .from(int(query), 0);
  C sum = C(0);
  for (int column = Warp::rank(); column < g.columns; column += WARP) {
    sum += widen(g.data[column * g.column]) * widen(values.data[column * values.column]);
  }
  sum = fold_warp<formulas::add>(sum);
  if (Warp::rank() == 0) static_cast<C*>(args.deltas)[Warp::number()] = sum;
}

// A block computes TILE rows of a head's derivative in q and WIDTH of its columns, going along the keys.
template <class Engine>
__global__ void __launch_bounds__(Engine::THREADS, 1) attention_query_grad(const AttentionGrad args) {
  using T = typename Engine::Element;
  using C = typename Engine::C;
  __shared__ typename Engine::Shared shared;
  const Problem& problem = args.problem;
  const Part part(problem, problem.heads);
  const int query = (int(problem.tiles) - 1 - part.tile) * TILE, column = part.slice * Engine::WIDTH;
  const Head of_keys = problem.head_of_keys(part.head);
  const auto g = matrix_of<const T>(args.g, args.g_at, part.head, problem.queries, problem.value_size).from(query, 0);
  const auto q = matrix_of<const T>(args.q, args.q_at, part.head, problem.queries, problem.size).from(query, 0);
  const auto k = matrix_of<const T>(args.k, args.k_at, of_keys, problem.keys, problem.size);
  const auto v = matrix_of<const T>(args.v, args.v_at, of_keys, problem.keys, problem.value_size);
  const Mask<T> mask(problem, part.head);
  const RowNumbers<C> numbers(args, part.head);

  using Cells = typename Engine::Cells;
  C log_sum[Cells::ROWS], delta[Cells::ROWS];
#pragma unroll
  for (int i = 0; i < Cells::ROWS; ++i) {
    log_sum[i] = numbers.log_sum(query + Cells::row(i));
    delta[i] = numbers.delta(query + Cells::row(i));
  }
  const auto of_q = Engine::rows(shared, q), of_g = Engine::rows(shared, g);
  typename Engine::Sums sum = {};
  const int keys = problem.keys_of_tile(query);
  for (int key = 0; key < keys; key += TILE) {
    auto cells = Engine::product(shared, of_q, k.from(key, 0));
    make_logits<false, Engine::THREADS>(shared.scratch, cells, mask, query, key);
#pragma unroll
    for (int i = 0; i < Cells::ROWS; ++i) {
#pragma unroll
      for (int j = 0; j < Cells::COLUMNS; ++j) cells.at(i, j) = weight_of(cells.at(i, j), log_sum[i]);
    }
    const auto weights = Engine::keep(shared, cells);
    cells = Engine::product(shared, of_g, v.from(key, 0));
#pragma unroll
    for (int i = 0; i < Cells::ROWS; ++i) {
#pragma unroll
      for (int j = 0; j < Cells::COLUMNS; ++j) cells.at(i, j) -= delta[i];
    }
    Engine::multiply(shared, cells, weights);
    const auto slopes = Engine::keep(shared, cells);
    Engine::add_weighted(shared, sum, slopes, k.from(key, column));
  }
  const auto out = matrix_of<T>(args.q_grad, args.q_grad_at, part.head, problem.queries, problem.size);
  store(out.from(query, column), sum, C(problem.scale));
}

// A block computes TILE rows of the derivatives in a head of k and v and WIDTH of their columns, going along the queries
// of all heads that attend to it.
template <class Engine>
__global__ void __launch_bounds__(Engine::THREADS, 1) attention_key_grad(const AttentionGrad args) {
  using T = typename Engine::Element;
  using C = typename Engine::C;
  __shared__ typename Engine::Shared shared;
  __shared__ C log_sums[TILE], deltas[TILE];
  const Problem& problem = args.problem;
  const Part part(problem, problem.key_heads);
  const int key = part.tile * TILE, column = part.slice * Engine::WIDTH;
  const auto k = matrix_of<const T>(args.k, args.k_at, part.head, problem.keys, problem.size).from(key, 0);
  const auto v = matrix_of<const T>(args.v, args.v_at, part.head, problem.keys, problem.value_size).from(key, 0);

  const int queries = int(problem.queries);
  const auto of_k = Engine::rows(shared, k), of_v = Engine::rows(shared, v);
  typename Engine::Sums k_sum = {}, v_sum = {};
  for (int member = 0; member < int(problem.group()); ++member) {
    const Head head{part.head.batch, part.head.number * problem.group() + member};
    const auto g = matrix_of<const T>(args.g, args.g_at, head, problem.queries, problem.value_size);
    const auto q = matrix_of<const T>(args.q, args.q_at, head, problem.queries, problem.size);
    const Mask<T> mask(problem, head);
    const RowNumbers<C> numbers(args, head);
    for (int query = problem.is_causal ? key : 0; query < queries; query += TILE) {
      if (threadIdx.x < TILE) {
        log_sums[threadIdx.x] = numbers.log_sum(query + int(threadIdx.x));
        deltas[threadIdx.x] = numbers.delta(query + int(threadIdx.x));
      }
      auto cells = Engine::product(shared, of_k, q.from(query, 0));
      make_logits<true, Engine::THREADS>(shared.scratch, cells, mask, query, key);
      each_cell(cells, [&](C& cell, int, int column) { cell = weight_of(cell, log_sums[column]); });
      const auto weights = Engine::keep(shared, cells);
      Engine::add_weighted(shared, v_sum, weights, g.from(query, column));
      cells = Engine::product(shared, of_v, g.from(query, 0));
      each_cell(cells, [&](C& cell, int, int column) { cell -= deltas[column]; });
      Engine::multiply(shared, cells, weights);
      const auto slopes = Engine::keep(shared, cells);
      Engine::add_weighted(shared, k_sum, slopes, q.from(query, column));
    }
  }
  const auto k_out = matrix_of<T>(args.k_grad, args.k_grad_at, part.head, problem.keys, problem.size);
  const auto v_out = matrix_of<T>(args.v_grad, args.v_grad_at, part.head, problem.keys, problem.value_size);
  store(k_out.from(key, column), k_sum, C(problem.scale));
  store(v_out.from(key, column), v_sum, C(1));
}
