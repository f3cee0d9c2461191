// The text as training of word vectors reads it: words that stay, their windows, and their negatives.
//
// Random numbers are drawn a vector at a time: the choices of a whole chunk, then the negatives of some words ahead, so that
// rows can be on their way to the caches before they are needed.
#pragma once

#include "cpu/philox.h"
#include "cpu/word_vectors_array.h"
#include "math/word_vectors.h"
#include "params/word_vectors.h"

namespace seqkern::cpu::SEQKERN_ISA {

// A word that stays. Its context words are the `before` entries before it and the `after` entries after it.
struct Entry {
  int32_t word;    // or -1: between sentences
  int32_t window;  // 0 for what lies outside the chunk
  int32_t before, after;
  int64_t place;
};

class WordVectorsText {
 public:
  static constexpr int64_t kChunk = 2048;  // places

  explicit WordVectorsText(const WordVectorsParams& p)
      : p_(p),
        draws_(p.noise == nullptr ? 0 : p.negatives),
        once_(p.cbow || p.shared),
        most_draws_(draws_ * (once_ ? 1 : 2 * reach(p))),
        batch_(std::max<int64_t>(1, std::min(kMostEntries, kMostDraws / std::max<int64_t>(1, most_draws_)))),
        entries_(kChunk + 2 * reach(p) + 2),
        blocks_(batch_ * (1 + most_draws_ / 2) + kLanes<float>),
        drawn_(2 * blocks_.draws.capacity() + kAhead * draws_) {}

  // How many words there can be to either side of one.
  static int64_t reach(const WordVectorsParams& p) { return std::min<int64_t>(p.window, p.length); }

  static constexpr int kAhead = 8;  // so many examples' draws may be read beyond the last

  // Takes the places [begin, end), kChunk or fewer.
  void take(int64_t begin, int64_t end) {
    entries_.clear();
    int64_t left = begin;
    for (int found = 0; found < p_.window && left > 0 && is_word(p_.ids[left - 1]); --left) found += stays(left - 1);
    add(-1, 0, left);
    for (; left < begin; ++left)
      if (stays(left)) add(p_.ids[left], 0, left);
    next_ = entries_.size();
    for (int64_t place = begin; place < end; place += kLanes<float>) add_places(place, std::min(place + kLanes<float>, end));
    last_ = entries_.size();
    for (int64_t found = 0, place = end; found < p_.window && place < p_.length && is_word(p_.ids[place]); ++place)
      if (stays(place)) {
        add(p_.ids[place], 0, place);
        ++found;
      }
    add(-1, 0, end);
    find_contexts();
  }

  // Draws the negatives of the next entries [first, last) of the chunk; false if there are none left.
  bool next(int64_t& first, int64_t& last) {
    if (next_ == last_) return false;
    first = next_;
    last = next_ = std::min(next_ + batch_, last_);
    if (draws_ > 0) draw(first, last);
    return true;
  }

  const Entry& operator[](int64_t entry) const { return entries_[entry]; }
  int64_t size() const { return entries_.size(); }

  // The draws of the entries in turn, as many for each as draws_of says.
  const int32_t* drawn() const { return &drawn_[0]; }
  int draws_of(const Entry& entry) const {
    const int contexts = entry.before + entry.after;
    return draws_ * (once_ ? contexts > 0 : contexts);
  }

 private:
  static constexpr int64_t kMostEntries = 64, kMostDraws = 8192;  // of a batch

  // Counters of blocks of random numbers, a word of the counter an array.
  struct Blocks {
    explicit Blocks(int64_t blocks) : place_low(blocks), place_high(blocks), block(blocks), draws(blocks) {}
    Array<uint32_t> place_low, place_high, block;
    Array<uint8_t> draws;  // 1 or 2
  };

  bool is_word(int32_t id) const { return id >= 0 && id < p_.vocabulary; }

  void add(int32_t word, int32_t window, int64_t place) { entries_.push({word, window, 0, 0, place}); }

  // Whether the word at a place stays, as add_places() has it.
  bool stays(int64_t place) const {
    if (p_.keep == nullptr) return true;
    const math::PhiloxWords<uint32_t> counter{
        {static_cast<uint32_t>(place), static_cast<uint32_t>(place >> 32), p_.epoch, math::kChoices}};
    return math::philox(p_.seed, counter).at[0] <= p_.keep[p_.ids[place]];
  }

  void add_places(int64_t begin, int64_t end) {
    uint32_t low[kLanes<float>], high[kLanes<float>], choices[2][kLanes<float>];
    for (int i = 0; i < kLanes<float>; ++i) {
      low[i] = static_cast<uint32_t>(begin + i);
      high[i] = static_cast<uint32_t>((begin + i) >> 32);
    }
    const auto random = random_words(low, high, Word32{} + math::kChoices);
    for (int i = 0; i < 2; ++i) std::memcpy(choices[i], &random.at[i], sizeof(Word32));
    for (int64_t place = begin; place < end; ++place) {
      const int64_t i = place - begin;
      const int32_t word = p_.ids[place];
      if (!is_word(word))
        add(-1, 0, place);
      else if (p_.keep == nullptr || choices[0][i] <= p_.keep[word])
        add(word, p_.shrink_windows ? math::drawn_window(choices[1][i], p_.window) : p_.window, place);
    }
  }

  math::PhiloxWords<Word32> random_words(const uint32_t* low, const uint32_t* high, Word32 block) const {
    return math::philox<Word32>(p_.seed, {{load_words(low), load_words(high), Word32{} + p_.epoch, block}});
  }
  static Word32 load_words(const uint32_t* p) {
    Word32 words;
    std::memcpy(&words, p, sizeof(words));
    return words;
  }

  void find_contexts() {
    for (int64_t i = 1, run = 0; i < entries_.size(); ++i) {
      Entry& entry = entries_[i];
      entry.before = std::min(static_cast<int32_t>(run), entry.window);
      run = entry.word < 0 ? 0 : std::min<int64_t>(run + 1, p_.window);
    }
    for (int64_t i = entries_.size() - 1, run = 0; i > 0; --i) {
      Entry& entry = entries_[i];
      entry.after = std::min(static_cast<int32_t>(run), entry.window);
      run = entry.word < 0 ? 0 : std::min<int64_t>(run + 1, p_.window);
    }
  }

  void draw(int64_t first, int64_t last) {
    for (auto* words : {&blocks_.place_low, &blocks_.place_high, &blocks_.block}) words->clear();
    blocks_.draws.clear();
    for (int64_t i = first; i < last; ++i) {
      const Entry& entry = entries_[i];
      const int draws = draws_of(entry);
      for (int block = 0; 2 * block < draws; ++block) {
        blocks_.place_low.push(static_cast<uint32_t>(entry.place));
        blocks_.place_high.push(static_cast<uint32_t>(entry.place >> 32));
        blocks_.block.push(static_cast<uint32_t>(block));
        blocks_.draws.push(2 * block + 1 < draws ? 2 : 1);
      }
    }
    const int64_t blocks = blocks_.draws.size();
    drawn_.clear();
    for (int64_t b = 0; b < blocks; b += kLanes<float>) {  // lanes past the last hold whatever was there
      uint32_t random[4][kLanes<float>];
      const auto words = random_words(&blocks_.place_low[b], &blocks_.place_high[b], load_words(&blocks_.block[b]));
      for (int i = 0; i < 4; ++i) std::memcpy(random[i], &words.at[i], sizeof(Word32));
      for (int64_t i = 0; i < std::min<int64_t>(kLanes<float>, blocks - b); ++i) {
        add_draw(random[0][i], random[1][i]);
        if (blocks_.draws[b + i] == 2) add_draw(random[2][i], random[3][i]);
      }
    }
    for (int i = 0; i < kAhead * draws_; ++i) drawn_.push(0);
  }

  void add_draw(uint32_t low, uint32_t high) {
    drawn_.push(static_cast<int32_t>(math::draw_alias(p_.noise, p_.vocabulary, low | static_cast<uint64_t>(high) << 32)));
  }

  const WordVectorsParams& p_;
  const int draws_;
  const bool once_;                   // one draw of negatives for a word, not for each context word
  const int64_t most_draws_, batch_;  // draws of a word, entries of a batch
  Array<Entry> entries_;
  int64_t next_ = 0, last_ = 0;  // entries of the chunk that are to come
  Blocks blocks_;
  Array<int32_t> drawn_;
};

}  // namespace seqkern::cpu::SEQKERN_ISA
