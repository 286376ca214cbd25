// What instrumented kernels call: before each access (-fsanitize=thread), and where the compiler finds behaviour that
// is undefined (-fsanitize=undefined). Names and layouts are those of ThreadSanitizer and UndefinedBehaviorSanitizer,
// whose own libraries are not linked.
#include "simulator_launch.h"

namespace simulator {

// Stop the launch if the running thread may not make an access.
void check(const void* address, size_t size, Access kind, Location where) {
  const char* stack = launch.running->stack;
  if (!checks.access(static_cast<const char*>(address), unsigned(size), kind, where, launch.current, stack,
                     stack + STACK_BYTES))
    fail_thread(checks.message);
}

static void check_access(const void* address, size_t size, Access kind, const void* return_address) {
  if (checks.active) check(address, size, kind, checks.locate(return_address));
}

#pragma GCC visibility push(default)

// --- accesses --------------------------------------------------------------------------------------------------------

extern "C" {

void __tsan_read1(const void* address) { check_access(address, 1, Access::Read, __builtin_return_address(0)); }
void __tsan_read2(const void* address) { check_access(address, 2, Access::Read, __builtin_return_address(0)); }
void __tsan_read4(const void* address) { check_access(address, 4, Access::Read, __builtin_return_address(0)); }
void __tsan_read8(const void* address) { check_access(address, 8, Access::Read, __builtin_return_address(0)); }
void __tsan_read16(const void* address) { check_access(address, 16, Access::Read, __builtin_return_address(0)); }
void __tsan_unaligned_read2(const void* address) {
  check_access(address, 2, Access::Read, __builtin_return_address(0));
}
void __tsan_unaligned_read4(const void* address) {
  check_access(address, 4, Access::Read, __builtin_return_address(0));
}
void __tsan_unaligned_read8(const void* address) {
  check_access(address, 8, Access::Read, __builtin_return_address(0));
}
void __tsan_unaligned_read16(const void* address) {
  check_access(address, 16, Access::Read, __builtin_return_address(0));
}
void __tsan_read_range(const void* address, size_t size) {
  check_access(address, size, Access::Read, __builtin_return_address(0));
}
void __tsan_write1(const void* address) { check_access(address, 1, Access::Write, __builtin_return_address(0)); }
void __tsan_write2(const void* address) { check_access(address, 2, Access::Write, __builtin_return_address(0)); }
void __tsan_write4(const void* address) { check_access(address, 4, Access::Write, __builtin_return_address(0)); }
void __tsan_write8(const void* address) { check_access(address, 8, Access::Write, __builtin_return_address(0)); }
void __tsan_write16(const void* address) { check_access(address, 16, Access::Write, __builtin_return_address(0)); }
void __tsan_unaligned_write2(const void* address) {
  check_access(address, 2, Access::Write, __builtin_return_address(0));
}
void __tsan_unaligned_write4(const void* address) {
  check_access(address, 4, Access::Write, __builtin_return_address(0));
}
void __tsan_unaligned_write8(const void* address) {
  check_access(address, 8, Access::Write, __builtin_return_address(0));
}
void __tsan_unaligned_write16(const void* address) {
  check_access(address, 16, Access::Write, __builtin_return_address(0));
}
void __tsan_write_range(const void* address, size_t size) {
  check_access(address, size, Access::Write, __builtin_return_address(0));
}
void __tsan_init() {}
void __tsan_func_entry(const void*) {}
void __tsan_func_exit() {}

}  // extern "C"

// --- undefined behaviour ---------------------------------------------------------------------------------------------

struct SourceLocation {
  const char* file;
  unsigned line, column;
};
struct TypeDescriptor {
  unsigned short kind, info;
  char name[];
};
struct TypedLocation {
  SourceLocation source;
  const TypeDescriptor* type;
};
struct TypeMismatch {
  SourceLocation source;
  const TypeDescriptor* type;
  unsigned char log_alignment, kind;
};

template <class... Values>
[[noreturn]] static void stop_with(const SourceLocation& source, const char* format, Values... values) {
  Text what;
  snprintf(what.text, sizeof what.text, format, values...);
  fail("%s, %s at %s:%u: %s", name_of_block().text, name_of(launch.thread[launch.current]).text, source.file,
       source.line, what.text);
}

extern "C" {

void __ubsan_handle_type_mismatch_v1(const TypeMismatch* data, uintptr_t address) {
  const uintptr_t alignment = uintptr_t(1) << data->log_alignment;
  if (address == 0) stop_with(data->source, "a null pointer to %s is followed", data->type->name);
  if (address % alignment != 0)
    stop_with(data->source, "misaligned access: an address of %s must be a multiple of %zu, and this one is %zu off",
              data->type->name, size_t(alignment), size_t(address % alignment));
}
void __ubsan_handle_out_of_bounds(const TypedLocation* data, uintptr_t index) {
  stop_with(data->source, "out of bounds: index %lld of an array of type %s", (long long)index, data->type->name);
}
void __ubsan_handle_shift_out_of_bounds(const TypedLocation* data, uintptr_t, uintptr_t by) {
  stop_with(data->source, "a shift of %s by %lld bits", data->type->name, (long long)by);
}
void __ubsan_handle_divrem_overflow(const TypedLocation* data, uintptr_t, uintptr_t) {
  stop_with(data->source, "an integer division by zero, of %s", data->type->name);
}
void __ubsan_handle_load_invalid_value(const TypedLocation* data, uintptr_t value) {
  stop_with(data->source, "%lld is no value of %s: perhaps of memory that was never written", (long long)value,
            data->type->name);
}
void __ubsan_handle_builtin_unreachable(const SourceLocation* source) {
  stop_with(*source, "code that was declared unreachable is reached");
}
void __ubsan_handle_missing_return(const SourceLocation* source) {
  stop_with(*source, "a function ends without returning its value");
}

}  // extern "C"
#pragma GCC visibility pop

}  // namespace simulator
