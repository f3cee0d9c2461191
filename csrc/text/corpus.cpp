#include "text/corpus.h"

#include <algorithm>
#include <cstdio>
#include <stdexcept>

namespace seqkern::text {

namespace {

constexpr size_t kChunkBytes = size_t{4} << 20;
constexpr int64_t kWordsBetweenPrunings = 10000;

[[noreturn]] void refuse_bytes(const std::string& path, const MappedText& text, const char* place) {
  char byte[8];
  std::snprintf(byte, sizeof byte, "0x%02x", static_cast<unsigned char>(*place));
  throw std::invalid_argument(path + " is not UTF-8 text: byte " + byte + " at offset " + std::to_string(text.offset(place)) +
                              ", line " + std::to_string(text.line(place)));
}

// The words that one thread has met.
struct Counter {
  WordTable table;
  std::vector<int64_t> counts, firsts;  // by id
  int64_t unpruned = 0;                 // words since the last pruning, in the current line
  int64_t threshold = 1;

  void add(const char* text, size_t length, int64_t offset, int64_t count = 1) {
    const auto id = static_cast<size_t>(table.add(text, length));
    if (id == counts.size()) {
      counts.push_back(count);
      firsts.push_back(offset);
      return;
    }
    counts[id] += count;
    firsts[id] = std::min(firsts[id], offset);
  }

  void merge(const Counter& other) {
    for (int32_t id = 0; id < other.table.size(); ++id) {
      const std::string_view word = other.table.word(id);
      add(word.data(), word.size(), other.firsts[static_cast<size_t>(id)], other.counts[static_cast<size_t>(id)]);
    }
  }

  void prune(int64_t max_vocab) {
    unpruned = 0;
    if (table.size() <= max_vocab) return;
    Counter kept;
    for (int32_t id = 0; id < table.size(); ++id) {
      const auto i = static_cast<size_t>(id);
      if (counts[i] >= threshold) kept.add(table.word(id).data(), table.word(id).size(), firsts[i], counts[i]);
    }
    kept.threshold = threshold + 1;
    *this = std::move(kept);
  }
};

void count_chunk(const Chunk& chunk, const MappedText& text, int64_t max_vocab, Counter& counter, LineCounter& lines,
                 int64_t& total) {
  scan(
      chunk.begin, chunk.end,
      [&](const char* word, size_t length) {
        counter.add(word, length, static_cast<int64_t>(text.offset(word)));
        lines.on_word();
        ++total;
        if (max_vocab > 0 && ++counter.unpruned == kWordsBetweenPrunings) counter.prune(max_vocab);
      },
      [&] {
        lines.on_line();
        if (counter.unpruned > 0) counter.prune(max_vocab);
      });
}

}  // namespace

WordCounts count_words(const std::string& path, const CountOptions& options, const Poll& poll) {
  const MappedText text(path);
  const std::vector<Chunk> chunks = cut(text.begin(), text.end(), kChunkBytes);
  const int threads = options.max_vocab > 0 ? 1 : std::max(1, options.threads);

  std::vector<Counter> counters(static_cast<size_t>(threads));
  std::vector<LineCounter> lines(chunks.size());
  std::vector<int64_t> totals(chunks.size());
  for_each_chunk(threads, chunks.size(), poll, [&](int thread, size_t i) {
    LineCounter chunk_lines;
    int64_t total = 0;
    count_chunk(chunks[i], text, options.max_vocab, counters[static_cast<size_t>(thread)], chunk_lines, total);
    lines[i] = chunk_lines;
    totals[i] = total;
  });
  Counter& all = counters[0];
  if (all.unpruned > 0) all.prune(options.max_vocab);
  for (size_t i = 1; i < counters.size(); ++i) {
    all.merge(counters[i]);
    counters[i] = Counter();
  }

  WordCounts result;
  bool open = false;
  for (size_t i = 0; i < chunks.size(); ++i) {
    result.total += totals[i];
    result.sentences += lines[i].ended(open);
  }
  result.sentences += open;
  result.words.reserve(all.counts.size());
  for (int32_t id = 0; id < all.table.size(); ++id) {
    const auto i = static_cast<size_t>(id);
    result.words.push_back({all.table.word(id), all.counts[i], all.firsts[i]});
  }
  result.table = std::move(all.table);
  std::sort(result.words.begin(), result.words.end(),
            [](const WordCount& a, const WordCount& b) { return a.count != b.count ? a.count > b.count : a.first < b.first; });

  if (options.strict) {
    const char* refused = nullptr;
    for (const WordCount& word : result.words) {
      const size_t valid = utf8_prefix(word.word.data(), word.word.size());
      if (valid == word.word.size()) continue;
      const char* place = text.begin() + (word.first - static_cast<int64_t>(text.offset(text.begin()))) + valid;
      if (refused == nullptr || place < refused) refused = place;
    }
    if (refused != nullptr) refuse_bytes(path, text, refused);
  }
  return result;
}

Encoder::Encoder(const std::string& path, const std::vector<std::string>& words, const int32_t* ids, bool strict, int threads,
                 const Poll& poll)
    : text_(path), ids_(ids, ids + words.size()) {
  std::string padded;
  for (const std::string& word : words) {
    const int32_t next = table_.size();
    padded.assign(word).append(8, '\0');
    if (table_.add(padded.data(), word.size()) != next) throw std::invalid_argument("word '" + word + "' is there twice");
  }

  const std::vector<Chunk> chunks = cut(text_.begin(), text_.end(), kChunkBytes);
  std::vector<LineCounter> lines(chunks.size());
  std::vector<int64_t> known(chunks.size());
  std::vector<const char*> refused(chunks.size());
  for_each_chunk(std::max(1, threads), chunks.size(), poll, [&](int, size_t i) {
    LineCounter chunk_lines;
    int64_t chunk_known = 0;
    scan(
        chunks[i].begin, chunks[i].end,
        [&](const char* word, size_t length) {
          if (table_.find(word, length) >= 0) {
            ++chunk_known;
            chunk_lines.on_word();
          } else if (strict && refused[i] == nullptr) {
            const size_t valid = utf8_prefix(word, length);
            if (valid < length) refused[i] = word + valid;
          }
        },
        [&] { chunk_lines.on_line(); });
    lines[i] = chunk_lines;
    known[i] = chunk_known;
  });

  bool open = false;
  parts_.reserve(chunks.size());
  for (size_t i = 0; i < chunks.size(); ++i) {
    if (refused[i] != nullptr) refuse_bytes(path, text_, refused[i]);
    Part part{chunks[i], size(), 0, open};
    words_ += known[i];
    sentences_ += lines[i].ended(open);
    part.end = size();
    parts_.push_back(part);
  }
  sentences_ += open;
}

void Encoder::fill(int32_t* ids, int threads, const Poll& poll) const {
  for_each_chunk(std::max(1, threads), parts_.size(), poll, [&](int, size_t i) {
    const Part& part = parts_[i];
    int32_t* out = ids + part.begin;
    int32_t* const end = ids + part.end;
    bool open = part.open;
    const auto write = [&](int32_t id) {
      if (out == end) throw std::runtime_error("the text file has changed while it was read");
      *out++ = id;
    };
    scan(
        part.chunk.begin, part.chunk.end,
        [&](const char* word, size_t length) {
          const int32_t number = table_.find(word, length);
          if (number < 0) return;
          write(ids_[static_cast<size_t>(number)]);
          open = true;
        },
        [&] {
          if (open) write(-1);
          open = false;
        });
    if (out != end) throw std::runtime_error("the text file has changed while it was read");
  });
  if (!parts_.empty() && parts_.back().end < size()) ids[size() - 1] = -1;
}

}  // namespace seqkern::text
