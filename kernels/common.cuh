// What all kernels share: element types and their conversions, 16-byte packs, index arithmetic, and how a kernel
// reports an error.
//
// The text is compiled by NVRTC and nvcc for GPUs and, with TL_SIMULATOR defined, by the host compiler for "cuda:sim".
// It includes no system header on the GPU, so that the compiler alone suffices there.
//
// Contract of every kernel: it takes one struct by value, which Python packs; it fills `out` and allocates nothing.
#pragma once

#ifdef TL_SIMULATOR
#include "simulator.h"
#endif

#define FN __device__ __forceinline__

using i8 = signed char;
using i16 = short;
using i32 = int;
using i64 = long long;
using u8 = unsigned char;
using u16 = unsigned short;
using u32 = unsigned int;
using u64 = unsigned long long;

// --- floats of 16 bits: stored narrow, computed as float --------------------------------------------------------------

struct f16 {
  u16 bits;
};
struct bf16 {
  u16 bits;
};

FN u32 bits_of(float x) { return __float_as_uint(x); }
FN float float_of(u32 bits) { return __uint_as_float(bits); }

FN float widen(f16 x) {
#ifdef TL_SIMULATOR
  return simulator::half_to_float(x.bits);
#else
  float wide;
  asm("cvt.f32.f16 %0, %1;" : "=f"(wide) : "h"(x.bits));
  return wide;
#endif
}

FN float widen(bf16 x) { return float_of(u32(x.bits) << 16); }

template <class T>
FN T widen(T x) {
  return x;
}

// The type in which elements of T are computed with.
template <class T>
struct ComputeType {
  using type = T;
};
template <>
struct ComputeType<f16> {
  using type = float;
};
template <>
struct ComputeType<bf16> {
  using type = float;
};
template <class T>
using Compute = typename ComputeType<T>::type;

// narrow<T>(x): x rounded to nearest even in T.
template <class T>
struct Narrow {
  template <class X>
  static FN T from(X x) {
    return static_cast<T>(x);
  }
};

template <>
struct Narrow<f16> {
  static FN f16 from(double x) {
#ifdef TL_SIMULATOR
    return {simulator::half_of(x)};
#else
    f16 narrow;
    asm("cvt.rn.f16.f64 %0, %1;" : "=h"(narrow.bits) : "d"(x));
    return narrow;
#endif
  }
  static FN f16 from(float x) {
#ifdef TL_SIMULATOR
    return {simulator::half_of(x)};
#else
    f16 narrow;
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(narrow.bits) : "f"(x));
    return narrow;
#endif
  }
  template <class X>
  static FN f16 from(X x) {
    return from(static_cast<float>(x));
  }
};

template <>
struct Narrow<bf16> {
  static FN bf16 from(float x) {
#if __CUDA_ARCH__ >= 800
    bf16 narrow;
    asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(narrow.bits) : "f"(x));
    return narrow;
#else
    const u32 bits = bits_of(x);
    if ((bits & 0x7fffffffu) > 0x7f800000u) return {u16((bits >> 16) | 0x40u)};  // NaN stays NaN
    return {u16((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16)};
#endif
  }
  template <class X>
  static FN bf16 from(X x) {
    return from(static_cast<float>(x));
  }
};

template <class T, class X>
FN T narrow(X x) {
  return Narrow<T>::from(x);
}

// --- limits -----------------------------------------------------------------------------------------------------------

// The smallest and largest value, -inf and inf for floats; and the smallest number that leaves 1 when it is added.
template <class T>
struct Limits {  // two's complement integers
  static constexpr bool is_signed = T(-1) < T(0);
  static FN T lowest() { return is_signed ? T(u64(1) << (8 * sizeof(T) - 1)) : T(0); }
  static FN T highest() { return is_signed ? T(~(u64(1) << (8 * sizeof(T) - 1))) : T(~u64(0)); }
};
template <>
struct Limits<bool> {
  static FN bool lowest() { return false; }
  static FN bool highest() { return true; }
};
template <>
struct Limits<float> {
  static FN float lowest() { return float_of(0xff800000u); }
  static FN float highest() { return float_of(0x7f800000u); }
};
template <>
struct Limits<double> {
  static FN double lowest() { return __longlong_as_double(i64(0xfff0000000000000ull)); }
  static FN double highest() { return __longlong_as_double(0x7ff0000000000000ll); }
};

template <class T>
constexpr bool is_float = false;
template <>
constexpr bool is_float<float> = true;
template <>
constexpr bool is_float<double> = true;

template <class A, class B>
constexpr bool is_same = false;
template <class A>
constexpr bool is_same<A, A> = true;

// Whether a functor F says `checks`: it then takes one argument more, to call with a value that it refuses.
template <class F, class = void>
constexpr bool requires_checks = false;
template <class F>
constexpr bool requires_checks<F, decltype(void(F::checks))> = true;

// --- memory -----------------------------------------------------------------------------------------------------------

// V neighbouring elements, moved by one access of up to 16 bytes.
template <class T, int V>
struct alignas(sizeof(T) * V) Pack {
  T at[V];
};

constexpr int larger(int a, int b) { return a > b ? a : b; }

// --- index arithmetic: u32 below 2^31 elements, u64 above ---------------------------------------------------------------

constexpr int MAX_DIMS = 8;
constexpr u32 FULL_WARP = 0xffffffffu;

// Division by a number known on the host: q = (n * magic / 2^32 + n) >> shift for n < 2^31 (Granlund and Montgomery,
// "Division by invariant integers using multiplication", PLDI 1994). Packed by `layout.divider`.
struct Divider {
  u64 divisor;
  u32 magic;
  u32 shift;
};

FN u32 quotient(u32 n, const Divider& d) { return (__umulhi(n, d.magic) + n) >> d.shift; }
FN u64 quotient(u64 n, const Divider& d) { return n / d.divisor; }

// The number of this thread among all of a one-dimensional grid.
template <class Index>
FN Index thread_number() {
  return Index(blockIdx.x) * Index(blockDim.x) + Index(threadIdx.x);
}

// --- errors -----------------------------------------------------------------------------------------------------------

// The first error since the host last looked. `code` says which launch it was, `value` and `position` what was wrong.
struct ErrorWord {
  u32 claimed;
  u32 code;
  i64 value;
  i64 position;
};

FN void report(ErrorWord* error, u32 code, i64 value, i64 position) {
  if (atomicCAS(&error->claimed, 0u, 1u) != 0u) return;
  error->code = code;
  error->value = value;
  error->position = position;
}
