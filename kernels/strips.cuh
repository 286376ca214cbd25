// Strips of matrices in shared memory, from which the threads of a block multiply.
#pragma once
#include "common.cuh"

// A strip of STEP x EXTENT elements: strip[k][i] = source(k, i), and 0 outside of the matrix. Neighbouring threads read
// along the dimension that lies densely in memory.
template <int THREADS, int EXTENT, class C, int STEP, int PITCH, class T>
FN void load_strip(C (&strip)[STEP][PITCH], const T* source, i64 k_stride, i64 i_stride, i64 k_left, i64 i_left) {
  static_assert(PITCH >= EXTENT && STEP * EXTENT % THREADS == 0, "the threads share the elements evenly");
  const int thread = int(threadIdx.x);
  const bool dense_along_k = k_stride == 1;
  int k = dense_along_k ? thread % STEP : thread / EXTENT;
  int i = dense_along_k ? thread / STEP : thread % EXTENT;
  const int next_k = dense_along_k ? 0 : THREADS / EXTENT;
  const int next_i = dense_along_k ? THREADS / STEP : 0;
  const int k_end = int(min(k_left, i64(STEP))), i_end = int(min(i_left, i64(EXTENT)));
  const i64 next = next_k * k_stride + next_i * i_stride;
  source += k * k_stride + i * i_stride;
#pragma unroll 4
  for (int load = 0; load < STEP * EXTENT / THREADS; ++load) {
    strip[k][i] = k < k_end && i < i_end ? widen(*source) : C(0);
    k += next_k;
    i += next_i;
    source += next;
  }
}
