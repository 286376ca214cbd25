// Products of matrices of any element type and any strides: out = x · y (+ bias per column).
//
// A block computes one tile of out. It walks along k, and each step brings a strip of x and one of y into shared
// memory, from which every element serves a whole row or column of the tile. The 16-bit floats accumulate in float.
#include "dims.cuh"
#include "strips.cuh"

// Packed by tensorlite/backends/kernels/matmul.py.
struct Matmul {
  void* out;         // (batch, rows, columns)
  const void* x;     // (batch, rows, depth)
  const void* y;     // (batch, depth, columns)
  const void* bias;  // (columns), or null
  i64 rows, columns, depth;
  i64 out_row, out_column;  // strides in elements
  i64 x_row, x_depth;
  i64 y_depth, y_column;
  i64 bias_column;
  Divider row_tiles, column_tiles;
  Dims<3> batch;  // out, x, y
};

constexpr int STEP = 16;  // elements along k in shared memory

// EDGE x EDGE threads compute EACH x EACH elements each. These lie EDGE apart, so that a warp reads neighbours.
template <class T, int EDGE, int EACH>
__global__ void __launch_bounds__(EDGE * EDGE, 1) matmul(const Matmul args) {
  constexpr int TILE = EDGE * EACH;
  __shared__ Compute<T> x_strip[STEP][TILE + 1], y_strip[STEP][TILE + 1];

  const u32 tile_row_and_batch = quotient(u32(blockIdx.x), args.column_tiles);
  const u32 batch = quotient(tile_row_and_batch, args.row_tiles);
  const i64 column = i64(blockIdx.x - tile_row_and_batch * u32(args.column_tiles.divisor)) * TILE;
  const i64 row = i64(tile_row_and_batch - batch * u32(args.row_tiles.divisor)) * TILE;
  const Place<u32, 3> place(args.batch, batch);
  T* out = static_cast<T*>(args.out) + place.offset[0];
  const T* x = static_cast<const T*>(args.x) + place.offset[1] + row * args.x_row;
  const T* y = static_cast<const T*>(args.y) + place.offset[2] + column * args.y_column;
  const T* bias = static_cast<const T*>(args.bias);

  const int first_row = int(threadIdx.x) / EDGE, first_column = int(threadIdx.x) % EDGE;
  Compute<T> sum[EACH][EACH] = {};
  for (i64 k = 0; k < args.depth; k += STEP) {
    load_strip<EDGE * EDGE, TILE>(x_strip, x + k * args.x_depth, args.x_depth, args.x_row, args.depth - k,
                                  args.rows - row);
    load_strip<EDGE * EDGE, TILE>(y_strip, y + k * args.y_depth, args.y_depth, args.y_column, args.depth - k,
                                  args.columns - column);
    __syncthreads();
#pragma unroll 4
    for (int step = 0; step < STEP; ++step) {
      Compute<T> of_y[EACH];
#pragma unroll
      for (int j = 0; j < EACH; ++j) of_y[j] = y_strip[step][first_column + j * EDGE];
#pragma unroll
      for (int i = 0; i < EACH; ++i) {
        const Compute<T> of_x = x_strip[step][first_row + i * EDGE];
#pragma unroll
        for (int j = 0; j < EACH; ++j) sum[i][j] += of_x * of_y[j];
      }
    }
    __syncthreads();
  }

#pragma unroll
  for (int i = 0; i < EACH; ++i) {
#pragma unroll
    for (int j = 0; j < EACH; ++j) {
      const i64 at_row = row + first_row + i * EDGE, at_column = column + first_column + j * EDGE;
      if (at_row >= args.rows || at_column >= args.columns) continue;
      Compute<T> value = sum[i][j];
      if (bias != nullptr) value += widen(bias[at_column * args.bias_column]);
      out[at_row * args.out_row + at_column * args.out_column] = narrow<T>(value);
    }
  }
}
