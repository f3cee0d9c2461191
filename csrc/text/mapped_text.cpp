#include "text/mapped_text.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <stdexcept>
#include <system_error>

namespace seqkern::text {

namespace {

constexpr size_t kPadding = 16;

struct Descriptor {
  int number;
  ~Descriptor() { close(number); }
};

[[noreturn]] void fail(int error, const std::string& path) { throw std::system_error(error, std::generic_category(), path); }

}  // namespace

MappedText::MappedText(const std::string& path) {
  // Without O_NONBLOCK, a pipe that nobody writes to would block here.
  const Descriptor file{open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK)};
  struct stat status;
  if (file.number < 0 || fstat(file.number, &status) != 0) fail(errno, path);
  if (S_ISDIR(status.st_mode)) fail(EISDIR, path);
  if (!S_ISREG(status.st_mode)) throw std::invalid_argument(path + " is not a regular file");

  // Pages of zeros, and the file over all but the padding.
  const size_t size = static_cast<size_t>(status.st_size);
  bytes_ = size + kPadding;
  pages_ = mmap(nullptr, bytes_, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (pages_ == MAP_FAILED) fail(errno, path);
  if (size > 0) {
    if (mmap(pages_, size, PROT_READ, MAP_PRIVATE | MAP_FIXED, file.number, 0) == MAP_FAILED) {
      const int error = errno;
      munmap(pages_, bytes_);
      fail(error, path);
    }
    madvise(pages_, size, MADV_SEQUENTIAL);
  }
  begin_ = static_cast<const char*>(pages_);
  end_ = begin_ + size;
  if (size >= 3 && std::memcmp(begin_, "\xEF\xBB\xBF", 3) == 0) begin_ += 3;
}

MappedText::~MappedText() { munmap(pages_, bytes_); }

size_t MappedText::line(const char* place) const { return 1 + static_cast<size_t>(std::count(begin_, place, '\n')); }

}  // namespace seqkern::text
