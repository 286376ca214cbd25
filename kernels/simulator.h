// CUDA C++ for the host compiler: what kernels use of the language, with one fiber per thread behind it.
//
// common.cuh includes this file in place of what NVRTC has built in. The names and their meaning are CUDA's; what makes
// them work, the scheduler, is simulator.cpp, a library that all compiled kernels share. Blocks run one after another
// and one thread at a time, so a plain read and write is atomic, and a thread gives way only where it waits for others.
//
// Python rewrites `extern __shared__ T name[];` to a pointer from `simulator::dynamic_shared`.
#pragma once

#include <math.h>
#include <stdio.h>
#include <string.h>

#include <type_traits>
#include <utility>

#define __global__ static
#define __device__
#define __host__
#define __constant__ static
#ifdef TL_SIMULATOR_CHECKED
#define __shared__ static __attribute__((aligned(1024)))  // apart from each other, so that what runs over one is seen
#else
#define __shared__ static
#endif
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __align__(bytes) __attribute__((aligned(bytes)))
#define __grid_constant__

// --- types and coordinates -------------------------------------------------------------------------------------------

struct uint3 {
  unsigned x, y, z;
};
struct dim3 {
  unsigned x = 1, y = 1, z = 1;
};
struct alignas(8) int2 {
  int x, y;
};
struct alignas(16) int4 {
  int x, y, z, w;
};
struct alignas(8) uint2 {
  unsigned x, y;
};
struct alignas(16) uint4 {
  unsigned x, y, z, w;
};
struct alignas(8) float2 {
  float x, y;
};
struct alignas(16) float4 {
  float x, y, z, w;
};
struct alignas(16) double2 {
  double x, y;
};
inline int2 make_int2(int x, int y) { return {x, y}; }
inline int4 make_int4(int x, int y, int z, int w) { return {x, y, z, w}; }
inline uint2 make_uint2(unsigned x, unsigned y) { return {x, y}; }
inline uint4 make_uint4(unsigned x, unsigned y, unsigned z, unsigned w) { return {x, y, z, w}; }
inline float2 make_float2(float x, float y) { return {x, y}; }
inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }
inline double2 make_double2(double x, double y) { return {x, y}; }

#pragma GCC visibility push(default)
extern uint3 threadIdx, blockIdx;
extern dim3 blockDim, gridDim;

namespace simulator {

// A line of kernel text: by default the one that calls a function with a parameter of this type.
struct Place {
  const char* file;
  int line;
  static constexpr Place here(const char* file = __builtin_FILE(), int line = __builtin_LINE()) { return {file, line}; }
};

enum class Access : unsigned char { Read, Write, Atomic, FloatAtomic };

// The scheduler, in simulator.cpp.
void* dynamic_shared_memory();
void wait_for_block(Place);
void wait_for_warp(unsigned mask, Place);
unsigned lane();
// Hand over 8 bytes to the lanes of `mask`, and get those of lane `source`; all ones, NaN, if it takes no part.
unsigned long long shuffle_bits(unsigned mask, unsigned long long bits, unsigned source, Place);
unsigned ballot(unsigned mask, bool says, Place);  // bit i: what lane i of `mask` said
extern const void* published[1024];                // by thread: what it shows the others of its warp
// Tell the checks of what the compiler does not show them.
void note_atomic(const volatile void* address, unsigned size, Access, Place);
void note_fence();

// Bit patterns of IEEE 754 binary16; rounding is to nearest even.
float half_to_float(unsigned short bits);
unsigned short half_of(float);
unsigned short half_of(double);

}  // namespace simulator
#pragma GCC visibility pop

constexpr int warpSize = 32;

// --- synchronisation -------------------------------------------------------------------------------------------------

inline void __syncthreads(simulator::Place place = simulator::Place::here()) { simulator::wait_for_block(place); }
inline void __syncwarp(unsigned mask = 0xffffffffu, simulator::Place place = simulator::Place::here()) {
  simulator::wait_for_warp(mask, place);
}
inline void __threadfence() { simulator::note_fence(); }
inline void __threadfence_system() { simulator::note_fence(); }
inline void __threadfence_block() {}

// --- between the lanes of a warp -------------------------------------------------------------------------------------

namespace simulator {

template <class T>
T* dynamic_shared() {
  return static_cast<T*>(dynamic_shared_memory());
}

template <class To, class From>
inline To bit_cast(From value) {
  static_assert(sizeof(To) == sizeof(From), "bit_cast: sizes differ");
  To result;
  memcpy(&result, &value, sizeof result);
  return result;
}

// The value that lane `source` handed over.
template <class T>
T shuffle(unsigned mask, T value, unsigned source, Place place) {
  static_assert(sizeof(T) <= 8, "shuffles move at most 8 bytes");
  unsigned long long bits = 0;
  memcpy(&bits, &value, sizeof value);
  bits = shuffle_bits(mask, bits, source, place);
  memcpy(&value, &bits, sizeof value);
  return value;
}

}  // namespace simulator

template <class T>
T __shfl_sync(unsigned mask, T value, int source, int width = 32, simulator::Place place = simulator::Place::here()) {
  const unsigned first = simulator::lane() & ~unsigned(width - 1);
  return simulator::shuffle(mask, value, first | (unsigned(source) & unsigned(width - 1)), place);
}
template <class T>
T __shfl_xor_sync(unsigned mask, T value, int bits, int width = 32,
                  simulator::Place place = simulator::Place::here()) {
  const unsigned me = simulator::lane(), source = me ^ unsigned(bits), last = me | unsigned(width - 1);
  return simulator::shuffle(mask, value, source <= last ? source : me, place);
}
template <class T>
T __shfl_down_sync(unsigned mask, T value, unsigned delta, int width = 32,
                   simulator::Place place = simulator::Place::here()) {
  const unsigned me = simulator::lane(), source = me + delta, last = me | unsigned(width - 1);
  return simulator::shuffle(mask, value, source <= last ? source : me, place);
}
template <class T>
T __shfl_up_sync(unsigned mask, T value, unsigned delta, int width = 32,
                 simulator::Place place = simulator::Place::here()) {
  const unsigned me = simulator::lane(), first = me & ~unsigned(width - 1);
  return simulator::shuffle(mask, value, me >= first + delta ? me - delta : me, place);
}
inline unsigned __ballot_sync(unsigned mask, int says, simulator::Place place = simulator::Place::here()) {
  return simulator::ballot(mask, says != 0, place);
}
inline int __any_sync(unsigned mask, int says, simulator::Place place = simulator::Place::here()) {
  return simulator::ballot(mask, says != 0, place) != 0;
}
inline int __all_sync(unsigned mask, int says, simulator::Place place = simulator::Place::here()) {
  return simulator::ballot(mask, says == 0, place) == 0;
}

// --- atomics: the thread that runs is alone --------------------------------------------------------------------------

// Not instrumented: note_atomic tells the checks all there is to know.
#define TL_UNCHECKED __attribute__((no_sanitize("thread", "undefined")))

namespace simulator {

template <class T>
constexpr bool is_float = T(0.5) != T(0) && T(0.5) != T(1);

// Replace what lies at an address by update(old), and return the old value.
template <class T, class Update>
TL_UNCHECKED T replace(T* address, Place place, Update update) {
  note_atomic(address, sizeof(T), is_float<T> ? Access::FloatAtomic : Access::Atomic, place);
  const T old = *address;
  *address = update(old);
  return old;
}

template <class T>
struct Same {  // a parameter of this type takes no part in deducing T: atomicAdd(&u64, 1) compiles, as in CUDA
  using type = T;
};
template <class T>
using Value = typename Same<T>::type;

}  // namespace simulator

template <class T>
TL_UNCHECKED T atomicAdd(T* address, simulator::Value<T> value, simulator::Place place = simulator::Place::here()) {
  return simulator::replace(address, place, [=](T old) TL_UNCHECKED { return T(old + value); });
}
template <class T>
TL_UNCHECKED T atomicSub(T* address, simulator::Value<T> value, simulator::Place place = simulator::Place::here()) {
  return simulator::replace(address, place, [=](T old) TL_UNCHECKED { return T(old - value); });
}
template <class T>
TL_UNCHECKED T atomicMax(T* address, simulator::Value<T> value, simulator::Place place = simulator::Place::here()) {
  return simulator::replace(address, place, [=](T old) TL_UNCHECKED { return old < value ? value : old; });
}
template <class T>
TL_UNCHECKED T atomicMin(T* address, simulator::Value<T> value, simulator::Place place = simulator::Place::here()) {
  return simulator::replace(address, place, [=](T old) TL_UNCHECKED { return value < old ? value : old; });
}
template <class T>
TL_UNCHECKED T atomicAnd(T* address, simulator::Value<T> value, simulator::Place place = simulator::Place::here()) {
  return simulator::replace(address, place, [=](T old) TL_UNCHECKED { return T(old & value); });
}
template <class T>
TL_UNCHECKED T atomicOr(T* address, simulator::Value<T> value, simulator::Place place = simulator::Place::here()) {
  return simulator::replace(address, place, [=](T old) TL_UNCHECKED { return T(old | value); });
}
template <class T>
TL_UNCHECKED T atomicExch(T* address, simulator::Value<T> value, simulator::Place place = simulator::Place::here()) {
  return simulator::replace(address, place, [=](T) TL_UNCHECKED { return value; });
}
template <class T>
TL_UNCHECKED T atomicCAS(T* address, simulator::Value<T> expected, simulator::Value<T> value,
                         simulator::Place place = simulator::Place::here()) {
  return simulator::replace(address, place, [=](T old) TL_UNCHECKED { return old == expected ? value : old; });
}

// --- arithmetic: correctly rounded operations are the host's own, built without contraction to fused ones ------------

template <class T>
constexpr T min(T a, T b) {
  return b < a ? b : a;
}
template <class T>
constexpr T max(T a, T b) {
  return a < b ? b : a;
}
inline float min(float a, float b) { return fminf(a, b); }
inline float max(float a, float b) { return fmaxf(a, b); }
inline double min(double a, double b) { return fmin(a, b); }
inline double max(double a, double b) { return fmax(a, b); }

inline float rsqrtf(float x) { return 1.0f / sqrtf(x); }
inline double rsqrt(double x) { return 1.0 / sqrt(x); }
inline float rsqrt(float x) { return rsqrtf(x); }
inline float __expf(float x) { return expf(x); }
inline float __logf(float x) { return logf(x); }
inline float __log2f(float x) { return log2f(x); }
inline float __powf(float x, float y) { return powf(x, y); }
inline float __sinf(float x) { return sinf(x); }
inline float __cosf(float x) { return cosf(x); }
inline float __fdividef(float x, float y) { return x / y; }
inline float __saturatef(float x) { return fminf(fmaxf(x, 0.0f), 1.0f); }

inline float __fadd_rn(float x, float y) { return x + y; }
inline float __fsub_rn(float x, float y) { return x - y; }
inline float __fmul_rn(float x, float y) { return x * y; }
inline float __fdiv_rn(float x, float y) { return x / y; }
inline float __frcp_rn(float x) { return 1.0f / x; }
inline float __fsqrt_rn(float x) { return sqrtf(x); }
inline float __fmaf_rn(float x, float y, float z) { return fmaf(x, y, z); }
inline double __dadd_rn(double x, double y) { return x + y; }
inline double __dsub_rn(double x, double y) { return x - y; }
inline double __dmul_rn(double x, double y) { return x * y; }
inline double __ddiv_rn(double x, double y) { return x / y; }
inline double __dsqrt_rn(double x) { return sqrt(x); }
inline double __fma_rn(double x, double y, double z) { return fma(x, y, z); }

inline unsigned __umulhi(unsigned x, unsigned y) { return unsigned((unsigned long long)x * y >> 32); }
inline int __mulhi(int x, int y) { return int((long long)x * y >> 32); }
inline unsigned long long __umul64hi(unsigned long long x, unsigned long long y) {
  return (unsigned long long)((unsigned __int128)x * y >> 64);
}
inline long long __mul64hi(long long x, long long y) { return (long long)((__int128)x * y >> 64); }
inline int __popc(unsigned x) { return __builtin_popcount(x); }
inline int __popcll(unsigned long long x) { return __builtin_popcountll(x); }
inline int __clz(int x) { return x == 0 ? 32 : __builtin_clz(unsigned(x)); }
inline int __clzll(long long x) { return x == 0 ? 64 : __builtin_clzll((unsigned long long)x); }
inline int __ffs(int x) { return __builtin_ffs(x); }
inline int __ffsll(long long x) { return __builtin_ffsll(x); }

inline int __float_as_int(float x) { return simulator::bit_cast<int>(x); }
inline unsigned __float_as_uint(float x) { return simulator::bit_cast<unsigned>(x); }
inline float __int_as_float(int x) { return simulator::bit_cast<float>(x); }
inline float __uint_as_float(unsigned x) { return simulator::bit_cast<float>(x); }
inline long long __double_as_longlong(double x) { return simulator::bit_cast<long long>(x); }
inline double __longlong_as_double(long long x) { return simulator::bit_cast<double>(x); }

template <class T>
T __ldg(const T* address) {
  return *address;
}

// --- the entry of a kernel -------------------------------------------------------------------------------------------

namespace simulator {

// How a kernel is launched; Python fills it in.
struct Geometry {
  dim3 grid, block;
  unsigned shared_bytes;
  unsigned long long seed;  // 0: threads and blocks in order
};

// How one parameter lies in the buffer of arguments. Kinds are 'p'ointer, 'f'loat, 'i'nt, 'u'nsigned, 's'truct; of what
// a pointer points to, kind and size too, or 'v'oid.
struct Parameter {
  char kind, element_kind;
  unsigned size, offset, element_size;
};

// What Python and the scheduler know of a compiled kernel.
struct Kernel {
  void (*run)(const char* arguments);       // one thread
  char *static_shared, *static_shared_end;  // the __shared__ arrays of the library that it is compiled into
  unsigned arguments_size;
  unsigned parameter_count;
  Parameter parameters[16];
};

// The linker's names for uninitialised memory, where `__shared__` arrays lie, which nothing else uses.
extern "C" __attribute__((visibility("hidden"))) char __bss_start[], _end[];

template <class T>
constexpr char kind_of() {
  if constexpr (std::is_void_v<T>) return 'v';
  else if constexpr (std::is_pointer_v<T>) return 'p';
  else if constexpr (std::is_class_v<T> || std::is_union_v<T>) return 's';
  else if constexpr (is_float<T>) return 'f';
  else return T(-1) < T(0) ? 'i' : 'u';
}

template <auto kernel>
struct Entry;
template <class... P, void (*kernel)(P...)>
struct Entry<kernel> {
  static constexpr Kernel describe() {
    Kernel result{run, __bss_start, _end, 0, 0, {}};
    (add<P>(result), ...);
    return result;
  }

 private:
  // Parameters lie one after another, each at a multiple of its alignment, as the CUDA driver lays them out.
  template <class T>
  static constexpr void add(Kernel& kernel_so_far) {
    using Element = std::remove_cv_t<std::remove_pointer_t<T>>;
    unsigned& end = kernel_so_far.arguments_size;
    const unsigned offset = (end + alignof(T) - 1) / alignof(T) * alignof(T);
    Parameter& parameter = kernel_so_far.parameters[kernel_so_far.parameter_count++];
    parameter = {kind_of<T>(), kind_of<Element>(), sizeof(T), offset, 0};
    if constexpr (!std::is_void_v<Element>) parameter.element_size = sizeof(Element);
    end = offset + sizeof(T);
  }

  template <size_t... index>
  static void call(const char* arguments, std::index_sequence<index...>) {
    constexpr Kernel self = describe();
    kernel(*reinterpret_cast<const P*>(arguments + self.parameters[index].offset)...);
  }
  static void run(const char* arguments) { call(arguments, std::index_sequence_for<P...>{}); }
};

}  // namespace simulator
