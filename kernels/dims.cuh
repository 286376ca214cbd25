// Dimensions of a kernel's operands, and the way from an element's number to its place in memory.
#pragma once
#include "common.cuh"

// Packed by `layout.packed_dims`: innermost dimension first, strides in elements of N operands.
template <int N>
struct Dims {
  i64 count;
  Divider size[MAX_DIMS];
  i64 stride[MAX_DIMS][N];
};

// Where element `number` lies in each operand; numbers count the innermost dimension fastest.
template <class Index, int N>
struct Place {
  i64 offset[N];

  FN Place(const Dims<N>& dims, Index number) {
#pragma unroll
    for (int k = 0; k < N; ++k) offset[k] = 0;
    Index rest = number;
#pragma unroll 1
    for (int dim = 0; dim < dims.count - 1; ++dim) {
      const Index next = quotient(rest, dims.size[dim]);
      const i64 at = i64(rest - next * Index(dims.size[dim].divisor));
#pragma unroll
      for (int k = 0; k < N; ++k) offset[k] += at * dims.stride[dim][k];
      rest = next;
    }
#pragma unroll
    for (int k = 0; k < N; ++k) offset[k] += i64(rest) * dims.stride[dims.count - 1][k];  // nothing to divide
  }
};
