// Moving elements where the elementwise copy would be slow, and making them from their own number.
#include "dims.cuh"

// --- a copy between arrays that lie densely along different dimensions -----------------------------------------------

// Packed by tensorlite/backends/kernels/transpose.py.
struct Transpose {
  void* out;      // (batch, rows, columns), dense along columns
  const void* x;  // the same, dense along rows
  i64 rows, columns;
  i64 out_row, x_column;  // strides in elements
  Divider row_tiles, column_tiles;
  Dims<2> batch;  // out, x
};

constexpr int TILE = 32;
constexpr int TILE_ROWS = 8;  // that a block moves at once: TILE x TILE_ROWS threads

// A block moves one tile through shared memory, so that both sides are accessed along their dense dimension. A row of
// the tile is one element longer than needed, so that a column of it does not lie in one bank.
template <class Out, class In>
__global__ void __launch_bounds__(TILE * TILE_ROWS) transpose(const Transpose args) {
  __shared__ Out tile[TILE][TILE + 1];

  const u32 tile_row_and_batch = quotient(u32(blockIdx.x), args.column_tiles);
  const u32 batch = quotient(tile_row_and_batch, args.row_tiles);
  const i64 column = i64(blockIdx.x - tile_row_and_batch * u32(args.column_tiles.divisor)) * TILE;
  const i64 row = i64(tile_row_and_batch - batch * u32(args.row_tiles.divisor)) * TILE;
  const Place<u32, 2> place(args.batch, batch);
  const int along = int(threadIdx.x);

  const In* x = static_cast<const In*>(args.x) + place.offset[1] + row + column * args.x_column;
#pragma unroll
  for (int across = int(threadIdx.y); across < TILE; across += TILE_ROWS) {
    if (row + along < args.rows && column + across < args.columns) {
      tile[across][along] = narrow<Out>(widen(x[along + across * args.x_column]));
    }
  }
  __syncthreads();
  Out* out = static_cast<Out*>(args.out) + place.offset[0] + row * args.out_row + column;
#pragma unroll
  for (int across = int(threadIdx.y); across < TILE; across += TILE_ROWS) {
    if (row + across < args.rows && column + along < args.columns) {
      out[along + across * args.out_row] = tile[along][across];
    }
  }
}

// --- numbers in even steps -------------------------------------------------------------------------------------------

// Packed by tensorlite/backends/kernels/movement.py. Number is i64 or double.
template <class Number>
struct Arange {
  void* out;
  Number start, step;
  i64 count;
  i64 stride;  // in elements
};

FN i64 step_from(i64 start, i64 step, i64 steps) { return start + step * steps; }

// Rounded twice, as NumPy does: a fused multiplication and addition would give other numbers.
FN double step_from(double start, double step, i64 steps) { return __dadd_rn(__dmul_rn(step, double(steps)), start); }

template <class Out, class Number>
__global__ void arange(const Arange<Number> args) {
  const i64 element = i64(thread_number<u64>());
  if (element >= args.count) return;
  static_cast<Out*>(args.out)[element * args.stride] = narrow<Out>(step_from(args.start, args.step, element));
}
