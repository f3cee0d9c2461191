// Training of word vectors on CUDA (params/word_vectors.h has the equations).
//
// A warp takes 32 places of the text at a time, and the words there that stay one after the other: it finds the word's context,
// and goes through the examples with up to kGroup output rows held in registers. A lane has 4 floats of every 128 of a row.
// The rows of a group, and of an example's h, are all on their way from memory before the first is used; all dots of an example
// are summed at once, and come to lie in different lanes for their sigmoids. Nothing is kept from word to word, and no warp waits
// for another: memory traffic is what bounds the speed, and many warps hide the latency. Of C context words and R output rows, a
// word reads and changes C (1 + R) rows where each example has negatives of its own, else C + R.
//
// All warps read and change the same rows without locks (as the CPU's threads do), by atomic additions, so that no change is
// lost: with more warps at work, changes are seen later (most_warps has the bound). The random choices are the CPU's.
//
// Indices cannot be looked at before without waiting for the device: an id out of range ends a sentence, other rows out of range
// are left out, and lists end where their tensor does.
#include "cuda/word_vectors.h"

#include <cmath>

#include "cuda/device.cuh"
#include "cuda/reduce.cuh"
#include "math/activations.h"
#include "math/word_vectors.h"

namespace seqkern::cuda {
namespace {

constexpr int kThreads = 64, kWarps = kThreads / kWarpSize;
constexpr int kColumns = 4 * kWarpSize;  // of a row, that a load or an addition of all lanes takes
constexpr int kMostBlocks = 3;           // of so many columns, in registers; longer rows are read twice
constexpr int64_t kContexts = 2 * kWarpSize, kDraws = 4 * kWarpSize;
constexpr int32_t kEnd = -1, kDropped = -2;  // in place of a word: a sentence's end, and what does not stay

struct WarpMemory {
  int32_t words[3 * kWarpSize];  // of the places from 32 before those that the warp takes to 32 behind them
  int32_t contexts[kContexts];   // words
  int32_t draws[kDraws];         // draw d of a word is at d % kDraws
};

// The 4 floats that a lane has of each of B blocks of columns.
template <int B>
struct Row {
  float at[B][4];
};

template <int B>
SEQKERN_DEVICE void add_scaled(Row<B>& to, float factor, const Row<B>& x) {
  for (int b = 0; b < B; ++b)
    for (int i = 0; i < 4; ++i) to.at[b][i] += factor * x.at[b][i];
}

struct List {
  const int32_t* at;
  int64_t count;
};

// List number i; what is not within [0, count) is cut off.
SEQKERN_DEVICE List list_at(const int32_t* elements, const int64_t* offsets, int64_t i, int64_t count) {
  const int64_t from = offsets[i], to = offsets[i + 1], begin = from < 0 ? 0 : from, end = to > count ? count : to;
  return begin < end ? List{elements + begin, end - begin} : List{elements, 0};
}

// The lowest bits of a mask, so many of them.
SEQKERN_DEVICE uint32_t lowest_bits(uint32_t mask, int count) {
  const int lane = lane_index();
  return ballot((mask >> lane & 1) != 0 && count_bits(mask & ((1u << lane) - 1)) < count);
}
// All bits below the lowest of a mask.
SEQKERN_DEVICE uint32_t bits_below(uint32_t mask) { return mask == 0 ? 0xFFFFFFFFu : (mask & (0u - mask)) - 1; }

// The sums over all lanes of n values, value r's in lanes [32 / n r, 32 / n (r + 1)). At each step, a lane gives away the values
// that it does not go on with.
template <int n>
SEQKERN_DEVICE float sum_of_lanes(float (&values)[n]) {
  int lanes = kWarpSize / 2;
  for (int half = n / 2; half > 0; half /= 2, lanes /= 2) {
    const bool upper = (lane_index() & lanes) != 0;
    for (int r = 0; r < half; ++r) {
      const float mine = upper ? values[r + half] : values[r], given = upper ? values[r] : values[r + half];
      values[r] = mine + shuffle_xor(given, lanes);
    }
  }
  for (; lanes > 0; lanes /= 2) values[0] += shuffle_xor(values[0], lanes);
  return values[0];
}

enum class Examples {
  apart,     // skip-gram, where each has negatives of its own
  together,  // skip-gram, where those of a word have their output rows in common: shared negatives, or a path
  bags       // CBOW: a word's only one, whose h is of all context words
};

// B: blocks of columns in registers.
template <int B, Examples kind>
class Trainer {
  static constexpr bool kBags = kind == Examples::bags, kTogether = kind == Examples::together;
  // Output rows in registers, where examples are together with their changes. The lanes of row r are 32 / kGroup.
  static constexpr int kGroup = kTogether && B == kMostBlocks ? 4 : 8, kLanesOfOutput = kWarpSize / kGroup;
  static constexpr int kLoads = kBags && B == 1 ? 4 : 2;  // of rows to be summed, at a time

 public:
  SEQKERN_DEVICE Trainer(const WordVectorsParams& p, WarpMemory& memory)
      : p_(p),
        memory_(memory),
        output_rows_(p.vocabulary - (p.path != nullptr)),
        stride_(static_cast<uint32_t>(p.stride)),
        columns_(static_cast<int>(p.vector_size)) {}

  // Trains on the places [begin, end), 32 or fewer.
  SEQKERN_DEVICE void train(int64_t begin, int64_t end) {
    first_ = begin - kWarpSize;
    int window = 0;
    for (int i = 0; i < 3; ++i) {
      int drawn = 0;
      memory_.words[i * kWarpSize + lane_index()] = find_word(first_ + i * kWarpSize + lane_index(), drawn);
      if (i == 1) window = drawn;
    }
    sync_warp();
    const int64_t own = begin + lane_index();
    const uint32_t kept = ballot(own < end && memory_.words[kWarpSize + lane_index()] >= 0);
    for (uint32_t left = kept; left != 0; left &= left - 1) {
      const int i = lowest_bit(left);
      train_word(begin + i, memory_.words[kWarpSize + i], shuffle(window, i));
    }
    sync_warp();
    loss_ += static_cast<double>(losses_);
    losses_ = 0;
    words_ += count_bits(kept);
  }

  SEQKERN_DEVICE void add_totals() {
    const double loss = warp_reduce(loss_, [](double a, double b) { return a + b; });
    if (lane_index() != 0) return;
    add_coherent(p_.totals, loss);
    add_coherent(p_.totals + 1, static_cast<double>(examples_));
    add_coherent(p_.totals + 2, static_cast<double>(words_));
  }

 private:
  // --- the text ---

  SEQKERN_DEVICE int32_t find_word(int64_t place, int& window) const {
    const int32_t word = place >= 0 && place < p_.length ? p_.ids[place] : kEnd;
    if (word < 0 || word >= p_.vocabulary) return kEnd;
    const math::PhiloxWords<uint32_t> random = math::philox(p_.seed, counter(place, math::kChoices));
    window = p_.shrink_windows ? math::drawn_window(random.at[1], p_.window) : p_.window;
    return p_.keep == nullptr || random.at[0] <= p_.keep[word] ? word : kDropped;
  }
  SEQKERN_DEVICE int32_t word_at(int64_t place) const {
    int window;
    return place >= first_ && place < first_ + 3 * kWarpSize ? memory_.words[place - first_] : find_word(place, window);
  }
  SEQKERN_DEVICE math::PhiloxWords<uint32_t> counter(int64_t place, uint32_t block) const {
    return {{static_cast<uint32_t>(place), static_cast<uint32_t>(place >> 32), p_.epoch, block}};
  }

  // Goes left from the word, to where its context begins.
  SEQKERN_DEVICE void find_context() {
    before_ = 0;
    leftmost_ = place_;
    for (int64_t from = place_ - 1;; from -= kWarpSize) {
      const int32_t word = word_at(from - lane_index());
      const uint32_t ends = ballot(word == kEnd), kept = lowest_bits(ballot(word >= 0) & bits_below(ends), window_ - before_);
      if (kept != 0) leftmost_ = from - highest_bit(kept);
      before_ += count_bits(kept);
      if (ends != 0 || before_ == window_) return;
    }
  }

  // Calls body(first, count) for the context words from number `first` on, which are then in memory_.contexts. Where all of them
  // are there since the last call, they are not looked for again.
  template <class Body>
  SEQKERN_DEVICE void for_contexts(const Body& body) {
    bool last = held_ >= 0;
    int listed = last ? held_ : 0, found = listed;
    for (int64_t from = leftmost_;; from += kWarpSize) {
      if (!last) {
        const int64_t place = from + lane_index();
        const int32_t word = place == place_ ? kDropped : word_at(place);
        const uint32_t ends = ballot(word == kEnd);
        const uint32_t kept = lowest_bits(ballot(word >= 0) & bits_below(ends), before_ + window_ - found);
        if (kept >> lane_index() & 1) memory_.contexts[listed + count_bits(kept & ((1u << lane_index()) - 1))] = word;
        found += count_bits(kept);
        listed += count_bits(kept);
        last = ends != 0 || found == before_ + window_;
        sync_warp();
      }
      if (last || listed > kContexts - kWarpSize) {
        if (last && found == listed) held_ = listed;
        if (listed > 0) body(found - listed, listed);
        listed = 0;
        sync_warp();
      }
      if (last) return;
    }
  }

  // --- examples ---

  SEQKERN_DEVICE void train_word(int64_t place, int32_t word, int window) {
    place_ = place;
    word_ = word;
    window_ = window;
    rate_ = static_cast<float>(p_.rate + static_cast<double>(place) * p_.rate_step);
    drawn_ = 0;
    held_ = -1;
    if (p_.path != nullptr) path_ = list_at(p_.path, p_.path_offsets, word, p_.path_count);
    find_context();
    if constexpr (kBags) {
      int contexts = 0;
      for_contexts([&](int, int count) SEQKERN_INLINE { contexts += count; });
      if (contexts == 0) return;
      ++examples_;
      train_examples(0, 0, 1);
    } else {
      for_contexts([&](int first, int count) SEQKERN_INLINE {
        examples_ += count;
        const int step = kTogether ? count : 1;
        for (int i = 0; i < count; i += step)
          train_examples(kTogether ? 0 : static_cast<int64_t>(first + i) * p_.negatives, i, step);
      });
    }
  }

  // Examples that have their output rows in common; the negatives are the word's from number `first_draw` on.
  SEQKERN_DEVICE void train_examples(int64_t first_draw, int begin, int count) {
    const int64_t outputs = p_.path != nullptr ? path_.count : p_.negatives + 1;
    for (int64_t o = 0; o < outputs; o += kGroup) {
      if (p_.path == nullptr) draw(first_draw + o, first_draw + (o + kGroup < p_.negatives ? o + kGroup : p_.negatives));
      train_group(o, outputs, first_draw, begin, begin + count);
    }
  }

  // Makes the word's draws [begin, end), kGroup or fewer.
  SEQKERN_DEVICE void draw(int64_t begin, int64_t end) {
    if (begin < drawn_ - kDraws) drawn_ = begin / 2 * 2;
    const int64_t most = static_cast<int64_t>(p_.negatives) * (kind == Examples::apart ? 2 * window_ : 1);
    for (; drawn_ < end; drawn_ += 2 * kWarpSize) {
      sync_warp();
      const int64_t d = drawn_ + 2 * lane_index();
      if (d < most) {
        const math::PhiloxWords<uint32_t> random = math::philox(p_.seed, counter(place_, static_cast<uint32_t>(d / 2)));
        memory_.draws[d % kDraws] = draw_word(random.at[0], random.at[1]);
        memory_.draws[d % kDraws + 1] = draw_word(random.at[2], random.at[3]);
      }
      sync_warp();
    }
  }
  SEQKERN_DEVICE int32_t draw_word(uint32_t low, uint32_t high) const {
    return static_cast<int32_t>(math::draw_alias(p_.noise, p_.vocabulary, low | static_cast<uint64_t>(high) << 32));
  }

  // Output row number o of an example; -1 if it is left out.
  SEQKERN_DEVICE int32_t output_at(int64_t o, int64_t first_draw, float& label) const {
    int32_t row = word_;
    label = 1;
    if (p_.path != nullptr) {
      row = path_.at[o];
      label = p_.path_labels[path_.at - p_.path + o];
    } else if (o < p_.negatives) {
      row = memory_.draws[(first_draw + o) % kDraws];
      if (row == word_) row = -1;
      label = 0;
    }
    return row < output_rows_ ? row : -1;
  }

  // --- rows ---

  // The lane's part of a row, from `column` on.
  SEQKERN_DEVICE int64_t offset_of(int32_t row, int column) const {
    return static_cast<int64_t>(static_cast<uint64_t>(static_cast<uint32_t>(row)) * stride_) + column + 4 * lane_index();
  }
  SEQKERN_DEVICE bool has_columns(int from) const { return from + 4 * lane_index() < columns_; }

  // Zeros for row -1, and beyond the last column; there, nothing is added.
  SEQKERN_DEVICE Row<B> load_row(const float* matrix, int32_t row, int column) const {
    const float* const from = matrix + offset_of(row, column);
    Row<B> values{};
    for (int b = 0; b < B; ++b) {
      if (row < 0 || !has_columns(column + b * kColumns)) continue;
      const Words words = load_coherent(from + b * kColumns);
      memcpy(values.at[b], words.at, sizeof(words.at));
    }
    return values;
  }
  SEQKERN_DEVICE void add_row(float* matrix, int32_t row, int column, const Row<B>& values) const {
    float* const to = matrix + offset_of(row, column);
    for (int b = 0; b < B; ++b)
      if (row >= 0 && has_columns(column + b * kColumns)) add_coherent(to + b * kColumns, values.at[b]);
  }

  // Calls body(rows) for lists of the input rows that h is of: in skip-gram, of context word number `context` in memory.
  template <class Body>
  SEQKERN_DEVICE void for_inputs(int context, const Body& body) {
    const auto rows_of = [&](int first, int count) SEQKERN_INLINE {
      const int64_t lists = p_.subwords == nullptr ? 1 : count;
      for (int64_t i = 0; i < lists; ++i)
        body(p_.subwords == nullptr ? List{memory_.contexts + first, count}
                                    : list_at(p_.subwords, p_.subword_offsets, memory_.contexts[first + i], p_.subword_count));
    };
    if constexpr (kBags)
      for_contexts([&](int, int count) SEQKERN_INLINE { rows_of(0, count); });
    else
      rows_of(context, 1);
  }
  SEQKERN_DEVICE int32_t input_at(const List& rows, int64_t i) const {
    const int32_t row = i < rows.count ? rows.at[i] : -1;
    return row < p_.input_rows ? row : -1;
  }

  // h, and what its change is multiplied by for each of its rows.
  SEQKERN_DEVICE Row<B> load_hidden(int context, int column, float& scale) {
    scale = 1;
    if (!kBags && p_.subwords == nullptr) return load_row(p_.input, memory_.contexts[context], column);
    Row<B> sum{};
    int64_t count = 0;
    for_inputs(context, [&](const List& rows) SEQKERN_INLINE {
      SEQKERN_UNROLL(1)
      for (int64_t i = 0; i < rows.count; i += kLoads) {
        Row<B> values[kLoads];
        for (int j = 0; j < kLoads; ++j) values[j] = load_row(p_.input, input_at(rows, i + j), column);
        for (int j = 0; j < kLoads; ++j) add_scaled(sum, 1, values[j]);
      }
      count += rows.count;
    });
    const float share = p_.mean && count > 1 ? 1.0f / static_cast<float>(count) : 1.0f;
    for (int b = 0; b < B; ++b)
      for (int i = 0; i < 4; ++i) sum.at[b][i] *= share;
    if (p_.exact) scale = share;
    return sum;
  }
  SEQKERN_DEVICE void add_to_inputs(int context, int column, const Row<B>& change) {
    for_inputs(context, [&](const List& rows) SEQKERN_INLINE {
      SEQKERN_UNROLL(1)
      for (int64_t i = 0; i < rows.count; ++i) add_row(p_.input, input_at(rows, i), column, change);
    });
  }

  // --- the step ---

  // Of the examples [begin, end), the output rows from number o on. The next h is on its way while one is worked with. Rows of
  // more columns than registers hold are read a second time, for the changes.
  SEQKERN_DEVICE void train_group(int64_t o, int64_t outputs, int64_t first_draw, int begin, int end) {
    constexpr int kWidth = B * kColumns;
    const int columns = B < kMostBlocks ? kWidth : columns_;
    const bool whole = columns <= kWidth;
    const int64_t own = o + lane_index() / kLanesOfOutput;
    float label = 0;
    const int32_t own_row = own < outputs ? output_at(own, first_draw, label) : -1;
    int32_t rows[kGroup];
    Row<B> values[kGroup], changes[kGroup];
    for (int r = 0; r < kGroup; ++r) rows[r] = shuffle(own_row, r * kLanesOfOutput);
    const auto load_outputs = [&](int column) SEQKERN_INLINE {
      for (int r = 0; r < kGroup; ++r) {
        values[r] = load_row(p_.output, rows[r], column);
        if (kTogether) changes[r] = {};
      }
    };
    const auto add_changes = [&](int column) SEQKERN_INLINE {
      for (int r = 0; r < kGroup; ++r) add_row(p_.output, rows[r], column, changes[r]);
    };
    if (whole) load_outputs(0);
    Row<B> next{};
    float next_scale = 1;
    constexpr int kAhead = kTogether ? 1 : 0;
    for (int context = begin - kAhead; context < end; ++context) {
      Row<B> hidden = next;
      float scale = next_scale;
      if (whole && context + kAhead < end) next = load_hidden(context + kAhead, 0, next_scale);
      if (context < begin) continue;
      if (kAhead == 0) {
        hidden = next;
        scale = next_scale;
      }
      float dots[kGroup] = {};
      for (int column = 0; column < columns; column += kWidth) {
        if (!whole) {
          load_outputs(column);
          hidden = load_hidden(context, column, scale);
        }
        for (int r = 0; r < kGroup; ++r)
          for (int b = 0; b < B; ++b)
            for (int i = 0; i < 4; ++i) dots[r] += hidden.at[b][i] * values[r].at[b][i];
      }
      const float error = logistic_error(sum_of_lanes(dots), label, own_row >= 0);
      for (int column = 0; column < columns; column += kWidth) {
        if (!whole) {
          load_outputs(column);
          hidden = load_hidden(context, column, scale);
        }
        Row<B> change{};
        for (int r = 0; r < kGroup; ++r) {
          const float factor = shuffle(error, r * kLanesOfOutput);
          add_scaled(change, scale * factor, values[r]);
          if (!kTogether) changes[r] = {};
          add_scaled(changes[r], factor, hidden);
          if (!kTogether) add_row(p_.output, rows[r], column, changes[r]);
        }
        add_to_inputs(context, column, change);
        if (kTogether && !whole) add_changes(column);
      }
    }
    if (kTogether && whole) add_changes(0);
  }

  // rate g of a dot, 0 where none counts; notes the loss.
  SEQKERN_DEVICE float logistic_error(float x, float label, bool counts) {
    if (!counts) return 0;
    const float e = math::exp_value(-fabsf(x)), inverse = math::reciprocal(1 + e);
    if (lane_index() % kLanesOfOutput == 0) losses_ += fmaxf(x, 0.0f) - label * x + log1pf(e);
    return rate_ * (label - (x >= 0 ? inverse : e * inverse));
  }

  const WordVectorsParams& p_;
  WarpMemory& memory_;
  const int64_t output_rows_;
  const uint32_t stride_;
  const int columns_;

  int64_t first_ = 0;  // the place of memory_.words[0]

  // Of the word that is trained on.
  int64_t place_ = 0, leftmost_ = 0;  // where its context begins
  int32_t word_ = 0;
  int window_ = 0, before_ = 0;  // context words before it
  int held_ = -1;                // context words in memory, if these are all
  float rate_ = 0;
  int64_t drawn_ = 0;  // draws that were made
  List path_{};

  float losses_ = 0;  // of the places
  double loss_ = 0;
  int64_t examples_ = 0, words_ = 0;
};

// Blocks of a multiprocessor: as many as leave registers enough.
template <int B>
constexpr int kBlocks = B == 1 ? 6 : 4;

template <int B, Examples kind>
SEQKERN_KERNEL(kThreads, kBlocks<B>)
train(SEQKERN_CONSTANT WordVectorsParams p) {
  SEQKERN_SHARED(WarpMemory, memories, kWarps);
  Trainer<B, kind> trainer(p, memories[warp_index()]);
  const int64_t step = block_count() * kThreads;  // places
  for (int64_t begin = p.begin + (block_index() * kWarps + warp_index()) * kWarpSize; begin < p.end; begin += step)
    trainer.train(begin, begin + kWarpSize < p.end ? begin + kWarpSize : p.end);
  trainer.add_totals();
}

bool is_together(const WordVectorsParams& p) { return !p.cbow && (p.shared || p.path != nullptr); }

// Changes that warps have under way at once are of the same old rows, and add up: where too many meet in a row, they overshoot,
// and training diverges. How many may, falls with the rate, and rises where frequent words are subsampled. Up to these bounds,
// simulations in which so many examples saw the same rows learned as much as with a few, on texts of 20 to 20000 words with
// Zipf's frequencies; from twice as many on, some diverged. At the default rate of 0.025 and with subsampling, they leave an H100
// full.
int64_t most_warps(const WordVectorsParams& p) {
  const double rate = p.rate + static_cast<double>(p.begin) * p.rate_step, bound = p.keep != nullptr ? 128 : 24;
  const double examples = is_together(p) ? (1 + p.window) / 2.0 : 1.0;  // that a warp has under way
  const double most = bound / (std::fmax(rate, 1e-9) * examples), words = static_cast<double>(p.vocabulary);
  return static_cast<int64_t>(std::fmax(1.0, std::fmin(most, words)));
}

template <int B>
cudaError_t launch_blocks(const WordVectorsParams& p, const Launch& how) {
  if (p.cbow) return launch(train<B, Examples::bags>, how, p);
  return launch(is_together(p) ? train<B, Examples::together> : train<B, Examples::apart>, how, p);
}

}  // namespace

cudaError_t launch_train_word_vectors(const WordVectorsParams& p, cudaStream_t stream) {
  if (p.begin == p.end) return cudaSuccess;  // a grid must not be empty
  if (p.stride > 0x7FFFFFFF) return cudaErrorInvalidValue;
  const int64_t needed = (p.end - p.begin + kThreads - 1) / kThreads, most = (most_warps(p) + kWarps - 1) / kWarps;
  const Launch how{{needed < most ? needed : most, 1}, kThreads, stream};
  if (p.vector_size <= kColumns) return launch_blocks<1>(p, how);
  if (p.vector_size <= 2 * kColumns) return launch_blocks<2>(p, how);
  return launch_blocks<kMostBlocks>(p, how);
}

}  // namespace seqkern::cuda
