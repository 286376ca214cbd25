// Many tensors in one launch: each is a segment of the work, with blocks of the grid for itself.
//
// A kernel's struct holds its operands' addresses, `data[operand][segment]`, and one of two layouts:
//
//   Flat<N>             up to N segments, each of which is dense, in one order of elements in all operands
//   Strided<OPERANDS>   one segment of any strides
//
// Which N are compiled is for tensorlite/backends/kernels/segments.py to say: a launch of few tensors should not carry
// the arguments of many. A block asks the layout for its Share, and strides over the segment's elements together with
// the other blocks of that segment.
#pragma once
#include "dims.cuh"

constexpr int ARGUMENT_BYTES = 4096;  // that every GPU takes as a kernel's struct

// The segment that a block works on, and this thread's number among all that do.
struct Share {
  int segment;
  i64 thread, threads;
};

template <int N>
struct Flat {  // packed by `segments.flat_values`
  static constexpr int capacity = N;
  i64 segments;
  i64 count[N];      // of elements
  i32 first[N + 1];  // the first block of each segment, and behind the last segment the number of blocks

  FN Share share() const {
    const int block = int(blockIdx.x);
    int low = 0, high = int(segments);
    while (high - low > 1) {
      const int middle = (low + high) / 2;
      if (first[middle] <= block) low = middle;
      else high = middle;
    }
    const i64 number = block - first[low];
    return {low, number * blockDim.x + threadIdx.x, i64(blocks(low)) * blockDim.x};
  }
  FN int blocks(int segment) const { return first[segment + 1] - first[segment]; }
};

template <int OPERANDS>
struct Strided {
  static constexpr int capacity = 1;
  i64 segments;  // 1
  i64 count[1];
  i64 grid;  // blocks
  Dims<OPERANDS> dims;

  FN Share share() const { return {0, thread_number<i64>(), i64(gridDim.x) * blockDim.x}; }
  FN int blocks(int) const { return int(grid); }
};
