// Streams, events, capture and graphs of the stand-in. The work of a stream is done as soon as it is asked for; while
// the stream is captured it is noted instead, and a launch of the graph does it.
//
// What CUDA forbids during a capture is refused with CUDA's error, and invalidates the capture as there: waiting for or
// asking about a stream or event that is being captured, or the whole GPU; waiting for work outside of the capture;
// streams that were forked into it and did not come back; the legacy default stream beside a blocking stream.
#include "driver.h"

#include <time.h>

#include <cstddef>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <thread>
#include <vector>

namespace {

enum Mode { global_mode = 0, thread_local_mode = 1, relaxed_mode = 2 };

struct Stream;

// How much of each stream's work has been waited for.
using Progress = std::map<const Stream*, size_t>;

struct Graph {
  std::vector<Work> nodes;
};

struct Capture {
  Stream* origin;
  Mode mode;
  std::thread::id thread;
  bool valid = true;
  std::vector<Work> nodes;
  std::set<Stream*> streams;
};

struct Stream {
  int device;
  bool blocking;
  std::shared_ptr<Capture> capture;
  Progress progress;
};

struct Event {
  double time = 0;
  std::weak_ptr<Capture> capture;
  Progress progress;
};

std::recursive_mutex mutex;
std::set<Stream*> streams;  // all there are
long long graphs = 0, events = 0;  // there are, graphs counted once more if instantiated

using Lock = std::lock_guard<std::recursive_mutex>;

Stream* as_stream(void* stream) { return static_cast<Stream*>(stream); }

std::set<std::shared_ptr<Capture>> captures() {
  std::set<std::shared_ptr<Capture>> result;
  for (const Stream* stream : streams) {
    if (stream->capture) result.insert(stream->capture);
  }
  return result;
}

int invalidate(Capture& capture, Status status) {
  capture.valid = false;
  return status;
}

void wait_for(Progress& progress, const Progress& other) {
  for (const auto& [stream, count] : other) {
    if (progress[stream] < count) progress[stream] = count;
  }
}

int run_all(const std::vector<Work>& nodes) {
  for (const Work& node : nodes) {
    if (const int status = node()) return status;
  }
  return success;
}

double now_in_ms() {
  timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return now.tv_sec * 1e3 + now.tv_nsec / 1e6;
}

}  // namespace

int submit(void* handle, Work work) {
  if (handle == nullptr) {
    if (const int status = legacy_stream_call()) return status;
    return work();
  }
  {
    Lock lock(mutex);
    Stream& stream = *as_stream(handle);
    if (stream.capture) {
      if (!stream.capture->valid) return capture_invalidated;
      stream.capture->nodes.push_back(std::move(work));
      ++stream.progress[&stream];
      return success;
    }
  }
  return work();
}

bool is_capturing(void* stream) {
  Lock lock(mutex);
  return stream != nullptr && as_stream(stream)->capture != nullptr;
}

int unsafe_call() {
  Lock lock(mutex);
  int status = success;
  for (const auto& capture : captures()) {
    const bool mine = capture->thread == std::this_thread::get_id();
    if (capture->mode == global_mode || (capture->mode == thread_local_mode && mine)) {
      status = invalidate(*capture, capture_unsupported);
    }
  }
  return status;
}

int whole_device_call() {
  Lock lock(mutex);
  int status = success;
  for (const auto& capture : captures()) {
    if (capture->origin->device == current_device) status = invalidate(*capture, capture_unsupported);
  }
  return status;
}

int legacy_stream_call() {
  Lock lock(mutex);
  int status = success;
  for (const auto& capture : captures()) {
    if (capture->origin->device == current_device && capture->origin->blocking) {
      status = invalidate(*capture, capture_implicit);
    }
  }
  return status;
}

extern "C" {

// --- for the tests ---------------------------------------------------------------------------------------------------

// Streams, events and graphs that were not destroyed.
long long fake_objects() {
  Lock lock(mutex);
  return graphs + events + static_cast<long long>(streams.size());
}

// --- streams ---------------------------------------------------------------------------------------------------------

int fake_cudaStreamCreateWithPriority(void** stream, unsigned flags, int) {
  Lock lock(mutex);
  has_context = true;
  auto* made = new Stream{current_device, (flags & 1) == 0, nullptr, {}};  // 1: cudaStreamNonBlocking
  streams.insert(made);
  *stream = made;
  return success;
}
int fake_cudaStreamCreateWithFlags(void** stream, unsigned flags) {
  return fake_cudaStreamCreateWithPriority(stream, flags, 0);
}
int fake_cudaStreamCreate(void** stream) { return fake_cudaStreamCreateWithPriority(stream, 0, 0); }
int fake_cudaStreamDestroy(void* stream) {
  Lock lock(mutex);
  Stream* dying = as_stream(stream);
  if (dying->capture) dying->capture->streams.erase(dying);
  streams.erase(dying);
  delete dying;
  return success;
}
int fake_cudaStreamSynchronize(void* stream) {
  if (stream == nullptr) return legacy_stream_call();
  Lock lock(mutex);
  const auto& capture = as_stream(stream)->capture;
  return capture ? invalidate(*capture, capture_unsupported) : success;
}
int fake_cudaStreamQuery(void* stream) { return fake_cudaStreamSynchronize(stream); }
int fake_cudaStreamWaitEvent(void* handle, void* mark, unsigned) {
  Lock lock(mutex);
  if (handle == nullptr) return legacy_stream_call();
  Stream& stream = *as_stream(handle);
  const Event& event = *static_cast<Event*>(mark);
  const auto capture = event.capture.lock();
  if (!capture) return stream.capture ? invalidate(*stream.capture, capture_isolation) : success;
  if (stream.capture && stream.capture != capture) return invalidate(*capture, capture_merge);
  stream.capture = capture;
  capture->streams.insert(&stream);
  wait_for(stream.progress, event.progress);
  return success;
}

// --- events ----------------------------------------------------------------------------------------------------------

int fake_cudaEventCreateWithFlags(void** event, unsigned) {
  Lock lock(mutex);
  ++events;
  *event = new Event();
  return success;
}
int fake_cudaEventCreate(void** event) { return fake_cudaEventCreateWithFlags(event, 0); }
int fake_cudaEventDestroy(void* event) {
  Lock lock(mutex);
  --events;
  delete static_cast<Event*>(event);
  return success;
}
int fake_cudaEventRecord(void* mark, void* stream) {
  Lock lock(mutex);
  Event& event = *static_cast<Event*>(mark);
  event = Event();
  event.time = now_in_ms();
  if (stream == nullptr) return legacy_stream_call();
  event.capture = as_stream(stream)->capture;
  event.progress = as_stream(stream)->progress;
  return success;
}
int fake_cudaEventQuery(void* event) {
  Lock lock(mutex);
  const auto capture = static_cast<Event*>(event)->capture.lock();
  return capture ? invalidate(*capture, captured_event) : success;
}
int fake_cudaEventSynchronize(void* event) { return fake_cudaEventQuery(event); }
int fake_cudaEventElapsedTime(float* ms, void* start, void* end) {
  *ms = float(static_cast<Event*>(end)->time - static_cast<Event*>(start)->time);
  return success;
}

// --- capture ---------------------------------------------------------------------------------------------------------

int fake_cudaStreamBeginCapture(void* handle, int mode) {
  Lock lock(mutex);
  if (handle == nullptr || as_stream(handle)->capture) return invalid_value;
  Stream& stream = *as_stream(handle);
  stream.capture = std::make_shared<Capture>();
  stream.capture->origin = &stream;
  stream.capture->mode = Mode(mode);
  stream.capture->thread = std::this_thread::get_id();
  stream.capture->streams.insert(&stream);
  stream.progress.clear();
  return success;
}

int fake_cudaStreamEndCapture(void* handle, void** graph) {
  Lock lock(mutex);
  *graph = nullptr;
  const auto capture = as_stream(handle)->capture;
  if (!capture) return invalid_value;
  if (capture->origin != handle) return invalidate(*capture, capture_unmatched);
  if (capture->mode != relaxed_mode && capture->thread != std::this_thread::get_id()) return capture_wrong_thread;
  bool joined = true;
  for (Stream* stream : capture->streams) {
    joined = joined && as_stream(handle)->progress[stream] >= stream->progress[stream];
  }
  for (Stream* stream : capture->streams) {
    stream->capture = nullptr;
    stream->progress.clear();
  }
  if (!capture->valid) return capture_invalidated;
  if (!joined) return capture_unjoined;
  ++graphs;
  *graph = new Graph{std::move(capture->nodes)};
  return success;
}

int fake_cudaStreamIsCapturing(void* stream, int* status) {
  Lock lock(mutex);
  *status = 0;
  if (stream == nullptr) return legacy_stream_call();
  const auto& capture = as_stream(stream)->capture;
  *status = !capture ? 0 : capture->valid ? 1 : 2;
  return success;
}

// --- graphs ----------------------------------------------------------------------------------------------------------

int fake_cudaGraphInstantiate(void** executable, void* graph) {
  Lock lock(mutex);
  ++graphs;
  *executable = new Graph(*static_cast<Graph*>(graph));
  return success;
}
int fake_cudaGraphDestroy(void* graph) {
  Lock lock(mutex);
  --graphs;
  delete static_cast<Graph*>(graph);
  return success;
}
int fake_cudaGraphExecDestroy(void* executable) { return fake_cudaGraphDestroy(executable); }
int fake_cudaGraphUpload(void*, void* stream) { return submit(stream, [] { return success; }); }
int fake_cudaGraphLaunch(void* executable, void* stream) {
  last_stream = stream;
  const auto* graph = static_cast<Graph*>(executable);
  return submit(stream, [graph] { return run_all(graph->nodes); });
}

}  // extern "C"
