// What softmax and cross entropy share: the normaliser of a row, and the formulas on top of it.
#pragma once
#include "rows.cuh"

// The largest element of a row, and the sum of exp(x - top) over its elements x.
template <class C>
struct Normaliser {
  C top, sum;
};

namespace formulas {

struct softmax {
  template <class C>
  FN C operator()(C x, const Normaliser<C>& row) const { return ::exp(x - row.top) * (C(1) / row.sum); }
};
struct log_softmax {
  template <class C>
  FN C operator()(C x, const Normaliser<C>& row) const { return (x - row.top) - ::log(row.sum); }
};

// A derivative sums a term of g and y over the row, and gets the sum back.
struct softmax_grad {
  template <class C>
  FN C term(C g, C y) const { return g * y; }
  template <class C>
  FN C operator()(C g, C y, C sum) const { return (g - sum) * y; }
};
struct log_softmax_grad {
  template <class C>
  FN C term(C g, C) const { return g; }
  template <class C>
  FN C operator()(C g, C y, C sum) const { return g - ::exp(y) * sum; }
};

struct cross_entropy {  // of the chosen element x of a row
  template <class C>
  FN C operator()(C x, const Normaliser<C>& row) const { return -log_softmax{}(x, row); }
};
struct cross_entropy_grad {
  template <class C>
  FN C operator()(C x, const Normaliser<C>& row, bool is_target, C scale) const {
    return (softmax{}(x, row) - C(is_target)) * scale;
  }
};

}  // namespace formulas

// The normaliser of a row in registers; beyond its end stands -inf.
template <class Team, int N, class C>
FN Normaliser<C> normaliser_of(const C (&x)[N]) {
  const C top = Team::template fold<formulas::maximum>(fold_piece<formulas::maximum>(x));
  C sum = C(0);
#pragma unroll
  for (int i = 0; i < N; ++i) sum += ::exp(x[i] - top);
  return {top, Team::template fold<formulas::add>(sum)};
}

// What is subtracted before exp: not an infinity that would make NaN of -inf, for it may not be the row's last word.
template <class C>
FN C shift_of(C top) {
  return top == Limits<C>::lowest() ? C(0) : top;
}

// The normaliser of a long row, read once: the sum is brought to the new top whenever that grows.
template <class Team, int PACKS, int V, class T>
FN Normaliser<Compute<T>> normaliser_of_long(const T* row, i64 step, i64 columns) {
  using C = Compute<T>;
  C top = Limits<C>::lowest(), sum = C(0);
  for (i64 first = 0; first < columns; first += stride_of_pieces<Team, PACKS, V>()) {
    C x[PACKS * V];
    load<Team, PACKS, V>(x, row, step, first, columns, Limits<C>::lowest());
    const C higher = formulas::maximum{}(top, fold_piece<formulas::maximum>(x));
    const C shift = shift_of(higher);
    sum *= ::exp(top - shift);
#pragma unroll
    for (int i = 0; i < PACKS * V; ++i) sum += ::exp(x[i] - shift);
    top = higher;
  }
  const C highest = Team::template fold<formulas::maximum>(top);
  return {highest, Team::template fold<formulas::add>(sum * ::exp(top - shift_of(highest)))};
}
