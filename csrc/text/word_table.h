// Distinct words numbered by first appearance: a hash table with open addressing over words in blocks of memory.
//
// A slot holds the first eight bytes of its word, so that most words are found without a look at their text.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <memory>
#include <stdexcept>
#include <string_view>
#include <vector>

namespace seqkern::text {

class WordTable {
 public:
  WordTable() : slots_(kFewestSlots) {}

  int32_t size() const { return static_cast<int32_t>(words_.size()); }
  std::string_view word(int32_t id) const { return words_[static_cast<size_t>(id)]; }

  // Id of a word, or -1. Eight bytes from any byte of the word on must be readable.
  int32_t find(const char* text, size_t length) const { return slots_[slot_of(text, length, first_bytes(text, length))].id; }

  // Id of a word, which becomes size() - 1 if it is new. Readable as in find().
  int32_t add(const char* text, size_t length) {
    const uint64_t first = first_bytes(text, length);
    size_t place = slot_of(text, length, first);
    if (slots_[place].id >= 0) return slots_[place].id;
    if (2 * (words_.size() + 1) > slots_.size()) {
      grow();
      place = slot_of(text, length, first);
    }
    if (words_.size() >= INT32_MAX) throw std::length_error("the text has more distinct words than int32 ids");
    slots_[place] = {first, clamp(length), size()};
    words_.push_back(store(text, length));
    return slots_[place].id;
  }

 private:
  struct Slot {
    uint64_t first = 0;
    uint32_t length = 0;
    int32_t id = -1;  // none
  };

  static constexpr size_t kFewestSlots = 1024;
  static constexpr size_t kBlock = size_t{1} << 20;
  static constexpr size_t kPadding = 8;

  static uint64_t load(const char* text) {
    uint64_t value;
    std::memcpy(&value, text, sizeof value);
    return value;
  }

  // The first eight bytes, zeros after the end of a shorter word.
  static uint64_t first_bytes(const char* text, size_t length) {
    const uint64_t value = load(text);
    if (length >= 8) return value;
    const unsigned unused = static_cast<unsigned>(64 - 8 * length);
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
    return value << unused >> unused;
#else
    return value >> unused << unused;
#endif
  }

  static uint32_t clamp(size_t length) { return static_cast<uint32_t>(std::min<size_t>(length, UINT32_MAX)); }

  // Both halves of a 128-bit product, folded: every bit of it depends on every bit of the factors.
  static uint64_t mix(uint64_t a, uint64_t b) {
    __extension__ using Wide = unsigned __int128;
    const Wide product = static_cast<Wide>(a) * b;
    return static_cast<uint64_t>(product) ^ static_cast<uint64_t>(product >> 64);
  }

  static uint64_t hash(const char* text, size_t length, uint64_t first) {
    constexpr uint64_t kA = 0x9E3779B97F4A7C15, kB = 0xD6E8FEB86659FD93;  // odd, half of their bits set
    uint64_t state = mix(first ^ kA, length ^ kB);
    if (length > 8) {
      for (size_t i = 8; i + 8 < length; i += 8) state = mix(state ^ load(text + i), kB);
      state = mix(state ^ load(text + length - 8), kA);
    }
    return state;
  }

  // Where a word stands, or the free slot where it would.
  size_t slot_of(const char* text, size_t length, uint64_t first) const {
    const uint32_t clamped = clamp(length);
    size_t place = hash(text, length, first) & (slots_.size() - 1);
    for (;; place = (place + 1) & (slots_.size() - 1)) {
      const Slot& slot = slots_[place];
      if (slot.id < 0) return place;
      if (slot.first != first || slot.length != clamped) continue;
      if (length <= 8 || word(slot.id) == std::string_view(text, length)) return place;
    }
  }

  void grow() {
    slots_ = std::vector<Slot>(2 * slots_.size());
    for (int32_t id = 0; id < size(); ++id) {
      const std::string_view text = word(id);
      const uint64_t first = first_bytes(text.data(), text.size());
      slots_[slot_of(text.data(), text.size(), first)] = {first, clamp(text.size()), id};
    }
  }

  std::string_view store(const char* text, size_t length) {
    if (left_ < length + kPadding) {
      left_ = std::max(kBlock, length + kPadding);
      blocks_.emplace_back(new char[left_]);
      free_ = blocks_.back().get();
    }
    std::memcpy(free_, text, length);
    std::memset(free_ + length, 0, kPadding);
    const std::string_view stored(free_, length);
    free_ += length;
    left_ -= length;
    return stored;
  }

  std::vector<Slot> slots_;              // a power of two, at least half of them free
  std::vector<std::string_view> words_;  // by id, in blocks_
  std::vector<std::unique_ptr<char[]>> blocks_;
  char* free_ = nullptr;
  size_t left_ = 0;
};

}  // namespace seqkern::text
