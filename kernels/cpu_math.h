// exp, expm1, log1p, tanh and erf without branches, so that loops over them vectorise.
//
// Their error is below 2.5 units in the last place wherever the result is a normal number. NaN stays NaN.
#pragma once
#include "cpu_environment.h"

namespace cpu {

// What splits exp(x) into 2^n exp(r): n is x / ln 2, rounded by adding and taking away 1.5 * 2^(digits - 1).
template <class T>
struct Exponential;

template <>
struct Exponential<float> {
  using Bits = int;
  using Word = unsigned;
  static constexpr int mantissa = 23, bias = 127, terms = 7;
  static constexpr float rounder = 12582912.0f, low = -104.0f, high = 89.0f;
  static constexpr float ln2_high = 0.693359375f, ln2_low = -2.12194440e-4f;  // products of the first with n are exact
};
template <>
struct Exponential<double> {
  using Bits = long long;
  using Word = unsigned long long;
  static constexpr int mantissa = 52, bias = 1023, terms = 13;
  static constexpr double rounder = 6755399441055744.0, low = -746.0, high = 710.0;
  static constexpr double ln2_high = 6.93147180369123816490e-01, ln2_low = 1.90821492927058770002e-10;
};

// 2^n for n within the range of normal numbers; any bits for another n, which NaN gives.
template <class T>
inline T power_of_two(typename Exponential<T>::Bits n) {
  using E = Exponential<T>;
  return same_bits<T>(typename E::Word(n + E::bias) << E::mantissa);
}

constexpr double reciprocal_factorial(int n) {
  double product = 1;
  for (int k = 2; k <= n; ++k) product *= k;
  return 1 / product;
}

// (exp(r) - 1 - r) / r^2 for |r| <= ln 2 / 2: Taylor's series.
template <class T, int k = 2>
inline T exponential_tail(T r) {
  if constexpr (k == Exponential<T>::terms) return T(reciprocal_factorial(k));
  else return T(reciprocal_factorial(k)) + r * exponential_tail<T, k + 1>(r);
}

// exp(x) = 2^n (1 + r + tail) with n an integer.
template <class T>
struct Split {
  typename Exponential<T>::Bits n;
  T r, tail;
};

template <class T>
inline Split<T> split(T x) {
  using E = Exponential<T>;
  x = x < E::low ? E::low : x;
  x = x > E::high ? E::high : x;
  const T shifted = x * T(1.44269504088896340736) + E::rounder, n = shifted - E::rounder;
  const T r = (x - n * E::ln2_high) - n * E::ln2_low;
  return {same_bits<typename E::Bits>(shifted) - same_bits<typename E::Bits>(E::rounder), r,
          r * r * exponential_tail(r)};
}

// x 2^n in two steps, since 2^n itself may be no normal number.
template <class T>
inline T scaled(T x, typename Exponential<T>::Bits n) {
  const auto half = n >> 1;
  return x * power_of_two<T>(half) * power_of_two<T>(n - half);
}

template <class T>
inline T exp(T x) {
  const Split<T> s = split(x);
  return scaled(T(1) + (s.r + s.tail), s.n);
}

// 2^n (exp(r) - 1) + (2^n - 1), which loses nothing near 0; n is at most 1 above the largest exponent.
template <class T>
inline T expm1(T x) {
  const Split<T> s = split(x);
  const T half = power_of_two<T>(s.n - 1 < -Exponential<T>::bias + 1 ? -Exponential<T>::bias + 1 : s.n - 1);
  const T result = ((s.r + s.tail) * half + (half - T(0.5))) * T(2);
  return s.n == 0 ? s.r + s.tail : result;
}

// 2 atanh(x / (2 + x)) for 0 <= x <= 1, which is all that the formulas ask for.
template <class T, int k = 1>
inline T atanh_tail(T square) {  // sum of square^k / (2k + 1)
  if constexpr (k == (sizeof(T) == 4 ? 8 : 17)) return T(1.0 / (2 * k + 1)) * square;
  else return square * (T(1.0 / (2 * k + 1)) + atanh_tail<T, k + 1>(square));
}
template <class T>
inline T log1p(T x) {
  const T s = x / (T(2) + x), twice = s + s;
  return twice + twice * atanh_tail(s * s);
}

// From e = exp(2|x|) - 1: tanh |x| = e / (e + 2).
template <class T>
inline T tanh(T x) {
  const T magnitude = fabs(x) > T(22) ? T(22) : fabs(x), e = cpu::expm1(magnitude + magnitude);
  return x != x ? x : copysign(e / (e + T(2)), x);
}

// Written out by the compiler, for a loop in it would keep the loop around it from being vectorised.
template <int k = 1, class T, int count>
inline T horner(const T (&coefficients)[count], T x, T result = 0) {
  if constexpr (k == 1) result = coefficients[0];
  if constexpr (k == count) return result;
  else return horner<k + 1>(coefficients, x, result * x + coefficients[k]);
}

// The fits of tensorlite/backends/cpu_math.py, highest power first: erf(x)/x in x^2 on [0, 1], and exp(x^2) erfc(x)/t
// in t = 2/(2+x) on [1, 28].
constexpr double ERF_SMALL[] = {
    5.9571761477489114e-11,  -1.13728488567916737e-9, 1.46597752740474358e-8, -1.6350312701054695e-7,
    1.6461000484121368e-6,   -1.49255952668311816e-5, 1.20553311116427109e-4, -8.54832698083378991e-4,
    5.22397762481801447e-3,  -2.68661706450767932e-2, 1.12837916709548787e-1, -3.76126389031837481e-1,
    1.12837916709551257,
};
constexpr double ERFC_LARGE[] = {
    -0.19289546932849836,  1.50588985744261607,   -5.38139304936203991,  11.5794129962771349,   -16.5901935647478679,
    16.5463673630182399,   -11.7694144297271472,  6.19505119705435737,   -2.62449316888408252,  0.914163082869631058,
    -0.175123341161074204, 0.0429451752522108528, -0.0611429209950981899, -0.0557538945010637481,
    -0.0045072151367827967, 0.0837543873058398729, 0.17630883467448543,  0.246832958125673491,  0.28209479142562366,
    0.282094791777498008,
};

inline double erf(double x) {
  const double magnitude = fabs(x) > 28.0 ? 28.0 : fabs(x);
  const double small = magnitude < 1 ? magnitude : 0.0, large = magnitude < 1 ? 1.0 : magnitude;
  const double t = 2 / (2 + large);
  const double outer = 1 - cpu::exp(-large * large) * t * horner(ERFC_LARGE, t);
  const double inner = small * horner(ERF_SMALL, small * small);
  return x != x ? x : copysign(magnitude < 1 ? inner : outer, x);
}

// Fits for float32, by least squares with the weights of the largest error (Lawson 1961): erf(x)/x - 1 in x^2 on [0, 1],
// to 1.3e-9, and ln(erfc(x))/x in x on [1, 4], which gives erf to 2.5e-9. From 4 on erf is 1.
constexpr float ERF_SMALL_FLOAT[] = {7.853861e-05f,  -8.0101937e-04f, 5.1883277e-03f, -2.6853813e-02f,
                                     1.12835854e-01f, -3.7612627e-01f, 1.28379166e-01f};
constexpr float ERFC_LARGE_FLOAT[] = {2.1064255e-04f,  -3.1869414e-03f, 2.2798447e-02f,
                                      -1.05116114e-01f, -6.358315e-01f, -1.12848008e+00f};

inline float erf(float x) {
  const float magnitude = fabs(x) > 4.0f ? 4.0f : fabs(x);
  const float inner = magnitude + magnitude * horner(ERF_SMALL_FLOAT, magnitude * magnitude);
  const float outer = 1.0f - cpu::exp(magnitude * horner(ERFC_LARGE_FLOAT, magnitude));
  return x != x ? x : copysign(magnitude < 1.0f ? inner : outer, x);
}

}  // namespace cpu

// The names that the formulas use.
template <class T> inline T exp(T x) { return cpu::exp(x); }
template <class T> inline T expm1(T x) { return cpu::expm1(x); }
template <class T> inline T log1p(T x) { return cpu::log1p(x); }
template <class T> inline T tanh(T x) { return cpu::tanh(x); }
template <class T> inline T erf(T x) { return cpu::erf(x); }
