// Elementwise kernels: out[i] = F(a[i], b[i], ...) for any formula F of up to four inputs.
//
// Two kernels serve all cases. `vectorised` moves 16 bytes at a time where every operand is dense, or repeats one
// element, along the innermost dimension; `strided` takes any strides, element by element. Python merges dimensions
// first, so most calls reach the first kernel with one dimension. A number is an operand without an array.
#include "dims.cuh"
#include "formulas.cuh"

// Packed by tensorlite/backends/kernels/elementwise.py; inputs a, b, c, d are numbered from 0.
template <int N>
struct Elementwise {
  void* out;
  const void* in[N];  // null: the operand is the number beside it
  u64 number[N];      // the bits of a number in the input's computing type
  ErrorWord* error;
  u64 code;
  i64 count;         // elements of out
  Dims<N + 1> dims;  // of out and then of the inputs
};

struct None {};  // the type of an input that a formula does not have

template <class A, class B, class C, class D>
constexpr int inputs = 1 + !is_same<B, None> + !is_same<C, None> + !is_same<D, None>;

template <class T>
constexpr int bytes = sizeof(T);
template <>
constexpr int bytes<None> = 0;

// Elements that fill 16 bytes of the widest operand.
template <class Out, class A, class B, class C, class D>
constexpr int width = 16 / larger(larger(bytes<Out>, larger(bytes<A>, bytes<B>)), larger(bytes<C>, bytes<D>));

// What a formula calls with a value that it refuses.
struct Refuse {
  ErrorWord* error;
  u32 code;
  i64 position;

  template <class T>
  FN void operator()(T value) const {
    report(error, code, i64(value), position);
  }
};

template <class F, class... X>
FN auto call(const Refuse& refuse, X... x) {
  if constexpr (requires_checks<F>) return F{}(x..., refuse);
  else return F{}(x...);
}

template <class B, class C, class D, class F, class A, class Y, class Z, class W>
FN auto apply(const Refuse& refuse, A a, Y b, Z c, W d) {
  if constexpr (is_same<B, None>) return call<F>(refuse, a);
  else if constexpr (is_same<C, None>) return call<F>(refuse, a, b);
  else if constexpr (is_same<D, None>) return call<F>(refuse, a, b, c);
  else return call<F>(refuse, a, b, c, d);
}

// The elements of one input: a pack of V neighbours (step 1), or one that is repeated. A pack is widened when it is
// used, not when it is loaded: the loads of all inputs are then under way before the first is waited for.
template <class T, int V>
struct Loaded {
  bool is_pack;
  Pack<T, V> pack;
  Compute<T> one;

  FN Loaded(const void* data, i64 offset, i64 step, u64 number) : is_pack(data != nullptr && step == 1) {
    const T* from = static_cast<const T*>(data) + offset;
    if (is_pack) pack = *reinterpret_cast<const Pack<T, V>*>(from);
    else one = data != nullptr ? widen(*from) : value_of(number);
  }

  FN Compute<T> at(int v) const { return is_pack ? widen(pack.at[v]) : one; }

  static FN Compute<T> value_of(u64 number) {
    union {
      u64 bits;
      Compute<T> value;
    } both = {number};
    return both.value;
  }
};

template <int V>
struct Loaded<None, V> {
  template <class... Any>
  FN Loaded(Any...) {}
  FN None at(int) const { return {}; }
};

// V results from `element` on, whose operands lie at `offset`.
template <int V, class F, class Out, class A, class B, class C, class D, int N>
FN void compute(const Elementwise<N>& args, i64 element, const i64 (&offset)[N + 1]) {
  const auto& step = args.dims.stride[0];
  const auto input = [&](int k) { return k < N ? k : 0; };  // inputs that are None have no place in the arrays
  const int one = input(1), two = input(2), three = input(3);
  const Loaded<A, V> a(args.in[0], offset[1], step[1], args.number[0]);
  const Loaded<B, V> b(args.in[one], offset[one + 1], step[one + 1], args.number[one]);
  const Loaded<C, V> c(args.in[two], offset[two + 1], step[two + 1], args.number[two]);
  const Loaded<D, V> d(args.in[three], offset[three + 1], step[three + 1], args.number[three]);
  Pack<Out, V> result;
#pragma unroll
  for (int v = 0; v < V; ++v) {
    const Refuse refuse{args.error, u32(args.code), element + v};
    result.at[v] = narrow<Out>(apply<B, C, D, F>(refuse, a.at(v), b.at(v), c.at(v), d.at(v)));
  }
  *reinterpret_cast<Pack<Out, V>*>(static_cast<Out*>(args.out) + offset[0]) = result;
}

// One pack of elements per thread; what is left over of one dimension goes to further threads, an element each.
template <class F, class Index, class Out, class A, class B = None, class C = None, class D = None>
__global__ void vectorised(const Elementwise<inputs<A, B, C, D>> args) {
  constexpr int N = inputs<A, B, C, D>;
  constexpr int V = width<Out, A, B, C, D>;
  const Index thread = thread_number<Index>();
  const Index packs = Index(args.count / V);
  if (thread < packs) {
    const Place<Index, N + 1> place(args.dims, thread * V);
    compute<V, F, Out, A, B, C, D>(args, i64(thread) * V, place.offset);
  } else if (thread < packs + Index(args.count % V)) {
    const Index element = packs * V + (thread - packs);
    const Place<Index, N + 1> place(args.dims, element);
    compute<1, F, Out, A, B, C, D>(args, i64(element), place.offset);
  }
}

// One element per thread.
template <class F, class Index, class Out, class A, class B = None, class C = None, class D = None>
__global__ void strided(const Elementwise<inputs<A, B, C, D>> args) {
  const Index element = thread_number<Index>();
  if (i64(element) >= args.count) return;
  const Place<Index, inputs<A, B, C, D> + 1> place(args.dims, element);
  compute<1, F, Out, A, B, C, D>(args, i64(element), place.offset);
}
