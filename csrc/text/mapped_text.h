// A text file in memory as far as it is read: the operating system brings pages in and drops them, so files may exceed memory.
//
// Sixteen zero bytes after the end are readable, so that scanning may load words and vectors that reach beyond it. The file must
// not be cut short while it is mapped: reading what is gone ends the process (SIGBUS).
#pragma once

#include <cstddef>
#include <string>

namespace seqkern::text {

class MappedText {
 public:
  // Throws std::system_error if the file cannot be opened or read (EISDIR for a folder), std::invalid_argument if it is no
  // regular file.
  explicit MappedText(const std::string& path);
  ~MappedText();
  MappedText(const MappedText&) = delete;
  MappedText& operator=(const MappedText&) = delete;

  // The text, without the byte order mark that may open a file of UTF-8.
  const char* begin() const { return begin_; }
  const char* end() const { return end_; }
  // Offset in the file, the byte order mark counted.
  size_t offset(const char* place) const { return static_cast<size_t>(place - static_cast<const char*>(pages_)); }
  // Number of the line that holds `place`, from 1.
  size_t line(const char* place) const;

 private:
  void* pages_ = nullptr;
  size_t bytes_ = 0;  // of the mapping
  const char *begin_ = nullptr, *end_ = nullptr;
};

}  // namespace seqkern::text
