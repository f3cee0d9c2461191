// A text cut into chunks between words, and threads that take them one by one.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <functional>
#include <mutex>
#include <vector>

#include "cpu/parallel.h"
#include "text/scan.h"

namespace seqkern::text {

struct Chunk {
  const char *begin, *end;
};

// Cuts at the whitespace next after every `bytes` bytes. Chunks do not depend on the number of threads.
inline std::vector<Chunk> cut(const char* begin, const char* end, size_t bytes) {
  std::vector<Chunk> chunks;
  while (begin < end) {
    const char* stop = static_cast<size_t>(end - begin) > bytes ? word_end(begin + bytes, end) : end;
    chunks.push_back({begin, stop});
    begin = stop;
  }
  return chunks;
}

// What the calling thread does between chunks; it may throw to end the work.
using Poll = std::function<void()>;

// Runs body(thread, chunk) for every chunk below `count`, each on any of the threads, a thread's in rising order. An exception
// ends the work, and is thrown.
template <class Body>
void for_each_chunk(int threads, size_t count, const Poll& poll, const Body& body) {
  std::atomic<size_t> next{0};
  std::exception_ptr error;
  std::mutex error_mutex;
  cpu::parallel(threads, [&](const cpu::Worker& worker) {
    try {
      while (true) {
        if (worker.thread == 0) poll();
        const size_t chunk = next.fetch_add(1);
        if (chunk >= count) return;
        body(worker.thread, chunk);
      }
    } catch (...) {
      const std::lock_guard<std::mutex> lock(error_mutex);
      if (!error) error = std::current_exception();
      next.store(count);
    }
  });
  if (error) std::rethrow_exception(error);
}

// Counts the lines of a chunk that have words, where the first may have begun and the last may end in another chunk.
class LineCounter {
 public:
  void on_word() { open_ = true; }

  void on_line() {
    if (broken_)
      inner_ += open_;
    else
      head_ = open_;
    broken_ = true;
    open_ = false;
  }

  // Lines with words that end in this chunk. `open`: whether the line that the chunk begins in has words in the chunks before;
  // becomes the same of the next chunk.
  int64_t ended(bool& open) const {
    const int64_t lines = broken_ ? inner_ + (open || head_) : 0;
    open = open_ || (open && !broken_);
    return lines;
  }

 private:
  bool broken_ = false;  // a line has ended in this chunk
  bool head_ = false;    // the first line that ended had words in this chunk
  bool open_ = false;    // the current line has words in this chunk
  int64_t inner_ = 0;    // lines with words that ended after the first that did
};

}  // namespace seqkern::text
