// Tensor cores: products of small matrices by all lanes of a warp together.
//
//   mma<T>(d, a, b)   d (16 x 8) += a (16 x k) · bᵀ, b (8 x k), in float, for a row of k elements in 8 words of 32 bits
//
// T is f16 or bf16, two to a word and k = 16, or float, rounded to TensorFloat-32 by `tf32`, and k = 8. Lane 4·i + j holds
//
//   a[0..3]   words j of rows i and i + 8, then words j + 4 of these
//   b[0..1]   words j and j + 4 of row i
//   d[0..3]   row i in columns 2·j and 2·j + 1, then row i + 8 in these
//
// Such GPUs begin at compute capability 8.0; Python chooses other kernels for older ones (`KernelBackend.tensor_cores`).
#pragma once
#include "common.cuh"

constexpr int MMA_WORDS = 8;  // of a row of a or b

// A float's bits rounded to the 10 bits of mantissa that tensor cores read, to nearest, ties away from zero.
FN u32 tf32(float x) {
#if __CUDA_ARCH__ >= 800
  u32 rounded;
  asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(rounded) : "f"(x));
  return rounded;
#else
  const u32 bits = bits_of(x);
  return (bits & 0x7f800000u) == 0x7f800000u ? bits : (bits + 0x1000u) & ~0x1fffu;
#endif
}

#ifdef TL_SIMULATOR

namespace emulation {

// What a lane brings to a product, in float.
template <int PER_WORD>
struct Fragments {
  float a[4][PER_WORD], b[2][PER_WORD];
};

template <class T>
struct Word {
  static constexpr int elements = 2;
  static void widen_to(float (&wide)[2], u32 word) {
    wide[0] = widen(T{u16(word)});
    wide[1] = widen(T{u16(word >> 16)});
  }
};
template <>
struct Word<float> {
  static constexpr int elements = 1;
  static void widen_to(float (&wide)[1], u32 word) { wide[0] = float_of(word); }
};

// Lanes show each other their fragments; `published` keeps the address of each thread's. Not instrumented: it is as one
// instruction to the checks.
template <class T>
TL_UNCHECKED void multiply_fragments(float (&d)[4], const u32 (&a)[4], const u32 (&b)[2], simulator::Place place) {
  constexpr int ELEMENTS = Word<T>::elements;
  Fragments<ELEMENTS> mine;
  for (int k = 0; k < 4; ++k) Word<T>::widen_to(mine.a[k], a[k]);
  for (int k = 0; k < 2; ++k) Word<T>::widen_to(mine.b[k], b[k]);
  const int thread = int(threadIdx.x), me = int(simulator::lane());
  const auto all = reinterpret_cast<const Fragments<ELEMENTS>* const*>(simulator::published + (thread - me));
  simulator::published[thread] = &mine;
  simulator::wait_for_warp(FULL_WARP, place);
  for (int i = 0; i < 4; ++i) {
    const int column = me % 4 * 2 + i % 2;
    for (int word = 0; word < MMA_WORDS; ++word) {
      const float(&of_a)[ELEMENTS] = all[me / 4 * 4 + word % 4]->a[i / 2 + word / 4 * 2];
      const float(&of_b)[ELEMENTS] = all[column * 4 + word % 4]->b[word / 4];
      for (int element = 0; element < ELEMENTS; ++element) d[i] += of_a[element] * of_b[element];
    }
  }
  simulator::wait_for_warp(FULL_WARP, place);
}

}  // namespace emulation

template <class T>
void mma(float (&d)[4], const u32 (&a)[4], const u32 (&b)[2], simulator::Place place = simulator::Place::here()) {
  emulation::multiply_fragments<T>(d, a, b, place);
}

#else

#if __CUDA_ARCH__ >= 800
template <class T>
struct Mma;
template <>
struct Mma<f16> {
  static FN void multiply(float (&d)[4], const u32 (&a)[4], const u32 (&b)[2]) {
    asm volatile(
        "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
  }
};
template <>
struct Mma<bf16> {
  static FN void multiply(float (&d)[4], const u32 (&a)[4], const u32 (&b)[2]) {
    asm volatile(
        "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
  }
};
template <>
struct Mma<float> {
  static FN void multiply(float (&d)[4], const u32 (&a)[4], const u32 (&b)[2]) {
    asm volatile(
        "mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
  }
};
#else
template <class T>
struct Mma {  // compiled for older GPUs, and never launched there
  static FN void multiply(float (&)[4], const u32 (&)[4], const u32 (&)[2]) { asm volatile("trap;"); }
};
#endif

template <class T>
FN void mma(float (&d)[4], const u32 (&a)[4], const u32 (&b)[2]) {
  Mma<T>::multiply(d, a, b);
}

#endif
