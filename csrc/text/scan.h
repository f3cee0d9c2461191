// Words and lines of a text in memory. Words are what ASCII whitespace separates: space, \t, \n, \v, \f, \r; \n ends a line.
//
// Sixteen bytes after the end of every text here must be readable, whatever they hold.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#ifdef __SSE2__
#include <emmintrin.h>
#endif

namespace seqkern::text {

inline bool is_space(char c) { return c == ' ' || static_cast<unsigned char>(c - '\t') < 5; }

// The first whitespace of [begin, end), or end.
inline const char* word_end(const char* begin, const char* end) {
#ifdef __SSE2__
  const __m128i space = _mm_set1_epi8(' '), tab = _mm_set1_epi8('\t'), four = _mm_set1_epi8(4);
  for (; begin < end; begin += 16) {
    const __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(begin));
    const __m128i beyond_tab = _mm_sub_epi8(bytes, tab);
    const __m128i control = _mm_cmpeq_epi8(_mm_min_epu8(beyond_tab, four), beyond_tab);
    const int found = _mm_movemask_epi8(_mm_or_si128(control, _mm_cmpeq_epi8(bytes, space)));
    if (found == 0) continue;
    begin += __builtin_ctz(static_cast<unsigned>(found));
    return begin < end ? begin : end;
  }
  return end;
#else
  while (begin < end && !is_space(*begin)) ++begin;
  return begin;
#endif
}

// Calls on_word(begin, length) for every word and on_line() for every \n, in order.
template <class OnWord, class OnLine>
inline void scan(const char* begin, const char* end, const OnWord& on_word, const OnLine& on_line) {
  while (begin < end) {
    if (is_space(*begin)) {
      if (*begin == '\n') on_line();
      ++begin;
      continue;
    }
    const char* stop = word_end(begin, end);
    on_word(begin, static_cast<size_t>(stop - begin));
    begin = stop;
  }
}

// Length of the longest beginning that is UTF-8 as RFC 3629 has it: shortest forms, no surrogates, nothing above U+10FFFF.
inline size_t utf8_prefix(const char* text, size_t length) {
  const auto* bytes = reinterpret_cast<const unsigned char*>(text);
  size_t i = 0;
  while (i < length) {
    const unsigned char lead = bytes[i];
    if (lead < 0x80) {
      ++i;
      continue;
    }
    const size_t more = lead >= 0xF0 ? 3 : lead >= 0xE0 ? 2 : 1;
    if (lead < 0xC2 || lead > 0xF4 || more >= length - i) return i;
    // The second byte alone tells a longer form than needed, a surrogate, or a code point beyond the last.
    const unsigned char low = lead == 0xE0 ? 0xA0 : lead == 0xF0 ? 0x90 : 0x80;
    const unsigned char high = lead == 0xED ? 0x9F : lead == 0xF4 ? 0x8F : 0xBF;
    if (bytes[i + 1] < low || bytes[i + 1] > high) return i;
    for (size_t k = 2; k <= more; ++k)
      if ((bytes[i + k] & 0xC0) != 0x80) return i;
    i += more + 1;
  }
  return i;
}

}  // namespace seqkern::text
