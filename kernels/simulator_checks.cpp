// The checks of simulator_checks.h.
#include "simulator_checks.h"

#include <link.h>

namespace simulator {

// --- a launch --------------------------------------------------------------------------------------------------------

struct ImageSearch {
  uintptr_t address, begin, end;
};

// The callback of dl_iterate_phdr; non-zero ends the search.
static int find_image(dl_phdr_info* info, size_t, void* data) {
  ImageSearch& search = *static_cast<ImageSearch*>(data);
  uintptr_t end = 0;
  for (int i = 0; i < info->dlpi_phnum; ++i) {
    const auto& header = info->dlpi_phdr[i];
    if (header.p_type == PT_LOAD) end = max(end, uintptr_t(header.p_vaddr + header.p_memsz));
  }
  search.begin = info->dlpi_addr;
  search.end = search.begin + end;
  return search.address >= search.begin && search.address < search.end;
}

Checks::Image Checks::image_of(const void* address) {
  ImageSearch search{reinterpret_cast<uintptr_t>(address), 0, 0};
  dl_iterate_phdr(find_image, &search);
  return {reinterpret_cast<const char*>(search.begin), reinterpret_cast<const char*>(search.end)};
}

void Checks::begin_launch(Watch* watch, const Kernel& kernel, const char* shared, unsigned shared_bytes,
                          unsigned blocks) {
  active = true;
  watch_ = watch;
  watch_->used_float_atomics = false;
  image_ = image_of(&kernel);
  static_begin_ = kernel.static_shared;
  static_end_ = kernel.static_shared_end;
  interval_ = 0;
  place_count_ = 0;
  released_ = static_cast<Release*>(calloc(blocks, sizeof *released_));
  area_count_ = watch->count + 1;
  areas_ = static_cast<Area*>(calloc(area_count_, sizeof *areas_));
  for (unsigned i = 0; i < watch->count; ++i) static_cast<Extent&>(areas_[i]) = watch->extents[i];
  static_cast<Extent&>(areas_[watch->count]) = {shared, shared_bytes, "the dynamic shared memory", 1, true};
}

void Checks::end_launch() {
  active = false;
  for (unsigned i = 0; i < area_count_; ++i) free(areas_[i].cells);
  free(areas_);
  free(released_);
}

void Checks::begin_block(unsigned number) {
  block_ = number;
  first_interval_ = ++interval_;
  fenced_ = acquired_ = false;
}

void Checks::meet(unsigned warp, unsigned lanes) {
  unsigned joined[WARP] = {};
  unsigned(*clock)[WARP] = &clock_[warp * WARP];
  for (unsigned rest = lanes; rest != 0; rest &= rest - 1) {
    const unsigned lane_number = unsigned(__builtin_ctz(rest));
    ++clock[lane_number][lane_number];
    for (unsigned i = 0; i < WARP; ++i) joined[i] = max(joined[i], clock[lane_number][i]);
  }
  for (unsigned rest = lanes; rest != 0; rest &= rest - 1)
    memcpy(clock[__builtin_ctz(rest)], joined, sizeof joined);
}

// --- bounds ----------------------------------------------------------------------------------------------------------

Checks::Area* Checks::area_of(const char* address) const {
  Area& dynamic_shared = areas_[area_count_ - 1];
  if (dynamic_shared.contains(address)) return &dynamic_shared;
  unsigned low = 0, high = area_count_ - 1;  // the area is among [low, high)
  while (low < high) {
    const unsigned middle = (low + high) / 2;
    if (areas_[middle].contains(address)) return &areas_[middle];
    if (address < areas_[middle].begin) high = middle;
    else low = middle + 1;
  }
  return nullptr;
}

template <class T>
static bool lies_in(const char* address, const T& variable) {
  const char* begin = reinterpret_cast<const char*>(&variable);
  return address >= begin && address < begin + sizeof variable;
}

// Constants of the kernel's library, and where a thread finds itself in the grid.
bool Checks::is_known(const char* address) const {
  const bool is_constant = image_.contains(address) && !(address >= static_begin_ && address < static_end_);
  return is_constant || lies_in(address, threadIdx) || lies_in(address, blockIdx) ||
         lies_in(address, blockDim) || lies_in(address, gridDim);
}

static const char* name_of(Access kind) {
  switch (kind) {
    case Access::Read: return "reads";
    case Access::Write: return "writes";
    default: return "updates atomically";
  }
}

bool Checks::refuse_bounds(const char* address, unsigned size, Access kind, Location where) {
  constexpr size_t NEAR = 1 << 16;
  const Area* nearest = nullptr;
  size_t least = NEAR;
  for (unsigned i = 0; i < area_count_; ++i) {
    const Area& area = areas_[i];
    const size_t distance = address < area.begin ? size_t(area.begin - address)
                            : area.contains(address) ? 0 : size_t(address - area.begin) - area.size;
    if (area.size == 0 || distance >= least) continue;
    nearest = &area;
    least = distance;
  }
  Text what;
  const auto describe = [&](const char* relation, const char* name) {
    snprintf(what.text, sizeof what.text, "%zu bytes %s %s", least, relation, name);
  };
  if (nearest == nullptr) {
    snprintf(what.text, sizeof what.text, "%s", address == nullptr ? "a null pointer" : "near no memory of the launch");
  } else if (nearest->contains(address)) {
    least = size_t(address + size - nearest->begin) - nearest->size;
    describe("reach beyond the end of", nearest->name);
  } else {
    describe(address < nearest->begin ? "before the start of" : "after the end of", nearest->name);
  }
  snprintf(message, sizeof message, "out of bounds: %s %u bytes at %s: %s", simulator::name_of(kind), size,
           name_of(where).text, what.text);
  return false;
}

// --- races -----------------------------------------------------------------------------------------------------------

bool Checks::is_ordered(const Event& earlier, const Event& now) const {
  return earlier.thread / WARP == now.thread / WARP && clock_[now.thread][earlier.thread % WARP] > earlier.clock;
}

bool Checks::conflict(const Area& area, const Event& earlier, const Event& now) const {
  if (earlier.interval == 0 || (earlier.atomic && now.atomic)) return false;
  if (earlier.block == now.block)
    return earlier.interval == now.interval && earlier.thread != now.thread && !is_ordered(earlier, now);
  const Release& release = released_[earlier.block];
  const bool published = earlier.interval < release.interval ||
                         (earlier.interval == release.interval && earlier.thread == release.thread);
  return !area.is_shared && !(acquired_ && published);
}

bool Checks::refuse_race(const Area& area, const Cell& cell, const Event& earlier, Access earlier_kind,
                         const Event& now, Access kind) {
  char other_block[60] = "";
  if (earlier.block != now.block)
    snprintf(other_block, sizeof other_block, " of block (%u, %u, %u)", earlier.block % gridDim.x,
             earlier.block / gridDim.x % gridDim.y, earlier.block / gridDim.x / gridDim.y);
  const unsigned x = earlier.thread % blockDim.x, y = earlier.thread / blockDim.x % blockDim.y,
                 z = earlier.thread / blockDim.x / blockDim.y;
  snprintf(message, sizeof message,
           "data race on %s at byte %zu: it %s at %s what thread (%u, %u, %u)%s %s at %s, and nothing orders the two",
           area.name, size_t(&cell - area.cells) * area.granule, simulator::name_of(kind), name_of(now.where).text,
           x, y, z, other_block, simulator::name_of(earlier_kind), name_of(earlier.where).text);
  return false;
}

bool Checks::refuse_unwritten(const Area& area, const char* address, unsigned size, Location where) {
  snprintf(message, sizeof message,
           "reads %u bytes of shared memory that no thread of the block has written, at %s: byte %zu of %s", size,
           name_of(where).text, size_t(address - area.begin), area.name);
  return false;
}

// Whether no exchange between lanes can order two accesses: of two blocks, or of two warps between the same barriers.
bool Checks::are_apart(const Event& earlier, const Event& now) {
  if (earlier.block != now.block) return earlier.interval != 0;
  return earlier.interval == now.interval && earlier.thread / WARP != now.thread / WARP;
}

// Keep the read, and an earlier one by another thread: rather one that is apart.
void Checks::remember_read(Cell& cell, const Event& now) {
  Event& last = cell.read[0];
  Event& other = cell.read[1];
  const bool same_thread = last.thread == now.thread && last.block == now.block;
  if (!same_thread && (are_apart(last, now) || !are_apart(other, now))) other = last;
  last = now;
}

// Compare an access with the earlier ones to the same element, and remember it.
bool Checks::visit(const Area& area, Cell& cell, const Event& now, Access kind) {
  if (conflict(area, cell.write, now))
    return refuse_race(area, cell, cell.write, cell.write.atomic ? Access::Atomic : Access::Write, now, kind);
  if (kind == Access::Read) {
    remember_read(cell, now);
    return true;
  }
  for (const Event& read : cell.read)
    if (conflict(area, read, now)) return refuse_race(area, cell, read, Access::Read, now, kind);
  cell.write = now;
  return true;
}

void Checks::note_atomic(Access kind, unsigned thread) {
  acquired_ = true;
  if (fenced_) released_[block_] = {interval_, thread};
  if (kind == Access::FloatAtomic) watch_->used_float_atomics = true;
}

bool Checks::access(const char* address, unsigned size, Access kind, Location where, unsigned thread,
                    const char* stack, const char* stack_end) {
  if (address >= stack && address + size <= stack_end) return true;
  Area* area = area_of(address);
  if (area == nullptr ? !is_known(address) : !area->contains(address + size - 1))
    return refuse_bounds(address, size, kind, where);
  const bool atomic = kind == Access::Atomic || kind == Access::FloatAtomic;
  if (atomic) note_atomic(kind, thread);
  if (area == nullptr || area->granule == 0) return true;
  if (area->cells == nullptr) area->cells = static_cast<Cell*>(calloc(area->size / area->granule + 1, sizeof(Cell)));
  const Event now{interval_, block_, clock_[thread][thread % WARP], where, static_cast<unsigned short>(thread), atomic};
  const size_t first = size_t(address - area->begin) / area->granule;
  const size_t last = size_t(address - area->begin + size - 1) / area->granule;
  for (size_t i = first; i <= last; ++i) {
    Cell& cell = area->cells[i];
    if (area->is_shared && kind != Access::Write && cell.write.interval < first_interval_)
      return refuse_unwritten(*area, address, size, where);
    if (!visit(*area, cell, now, kind)) return false;
  }
  return true;
}

// --- places ----------------------------------------------------------------------------------------------------------

Location Checks::locate(Place place) {
  for (unsigned i = 0; i < place_count_; ++i)
    if (places_[i].line == place.line && places_[i].file == place.file) return KNOWN_PLACE | i;
  if (place_count_ == MAX_PLACES) return KNOWN_PLACE;
  places_[place_count_] = place;
  return KNOWN_PLACE | place_count_++;
}

// Python turns offsets into lines.
Text Checks::name_of(Location where) const {
  Text result;
  if (where & KNOWN_PLACE) {
    const Place& place = places_[where & ~KNOWN_PLACE];
    snprintf(result.text, sizeof result.text, "%s:%d", place.file, place.line);
  } else {
    snprintf(result.text, sizeof result.text, "<offset %#x>", where);
  }
  return result;
}

}  // namespace simulator
