// What the libraries of the stand-in share.
#pragma once

#include <functional>

enum Status {
  success = 0,
  invalid_value = 1,
  out_of_memory = 2,
  invalid_device = 101,
  invalid_context = 201,
  invalid_handle = 400,
  not_found = 500,
  not_supported = 801,
  capture_unsupported = 900,
  capture_invalidated = 901,
  capture_merge = 902,
  capture_unmatched = 903,
  capture_unjoined = 904,
  capture_isolation = 905,
  capture_implicit = 906,
  captured_event = 907,
  capture_wrong_thread = 908,
};

using Work = std::function<int()>;

extern thread_local int current_device;
extern thread_local bool has_context;
extern void* last_stream;  // of the last launch, of a kernel or of a graph

// Does the work of a stream at once, or notes it where the stream is capturing.
int submit(void* stream, Work work);

bool is_capturing(void* stream);

// For calls that CUDA counts as unsafe beside a capture, such as allocations: refused if the mode of a capture says so.
int unsafe_call();

// For calls that wait for, or ask about, all work of the GPU, or of its legacy default stream: never beside a capture
// that they would touch.
int whole_device_call();
int legacy_stream_call();
