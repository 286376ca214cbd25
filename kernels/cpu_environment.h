// What formulas.cuh and updates.cuh use of CUDA C++ and of the C library's mathematics, for the host compiler that
// builds them as plain loops for device "cpu".
//
// It stands in for <math.h>, which must not be included beside it: exp and its kin are the polynomials of cpu_math.h,
// which vectorise. What the formulas name and the CPU's kernels never call is declared and left at that.
#pragma once

#define __device__
#define __global__ static
#define __forceinline__ inline __attribute__((always_inline))

struct Coordinates {
  unsigned x, y, z;
};
constexpr Coordinates blockIdx{0, 0, 0}, blockDim{1, 1, 1}, threadIdx{0, 0, 0};

template <class To, class From>
inline To same_bits(From from) {
  static_assert(sizeof(To) == sizeof(From));
  To to;
  __builtin_memcpy(&to, &from, sizeof(to));
  return to;
}

inline unsigned __float_as_uint(float x) { return same_bits<unsigned>(x); }
inline float __uint_as_float(unsigned bits) { return same_bits<float>(bits); }
inline double __longlong_as_double(long long bits) { return same_bits<double>(bits); }
inline unsigned __umulhi(unsigned a, unsigned b) { return unsigned((unsigned long long)a * b >> 32); }
inline unsigned long long __umul64hi(unsigned long long a, unsigned long long b) {
  return (unsigned long long)((unsigned __int128)a * b >> 64);
}
inline long long __double_as_longlong(double x) { return same_bits<long long>(x); }
inline float __fadd_rn(float x, float y) { return x + y; }
inline float __fmul_rn(float x, float y) { return x * y; }
inline double __dadd_rn(double x, double y) { return x + y; }
inline double __dmul_rn(double x, double y) { return x * y; }
inline double __ddiv_rn(double x, double y) { return x / y; }
unsigned atomicCAS(unsigned* address, unsigned expected, unsigned value);

inline float sqrt(float x) { return __builtin_sqrtf(x); }
inline double sqrt(double x) { return __builtin_sqrt(x); }
inline float fabs(float x) { return __builtin_fabsf(x); }
inline double fabs(double x) { return __builtin_fabs(x); }
inline float copysign(float x, float y) { return __builtin_copysignf(x, y); }
inline double copysign(double x, double y) { return __builtin_copysign(x, y); }
inline double pow(double x, double y) { return __builtin_pow(x, y); }
inline float log(float x) { return __builtin_logf(x); }
inline double log(double x) { return __builtin_log(x); }

template <class T> T exp2(T x);
template <class T> T log2(T x);
template <class T> T log10(T x);
template <class T> T sin(T x);
template <class T> T cos(T x);
template <class T> T tan(T x);
template <class T> T asin(T x);
template <class T> T acos(T x);
template <class T> T atan(T x);
template <class T> T atan2(T y, T x);
template <class T> T sinh(T x);
template <class T> T cosh(T x);
template <class T> T asinh(T x);
template <class T> T acosh(T x);
template <class T> T atanh(T x);
template <class T> T fmod(T x, T y);
template <class T> T floor(T x);
template <class T> T ceil(T x);
template <class T> T trunc(T x);
template <class T> T rint(T x);
