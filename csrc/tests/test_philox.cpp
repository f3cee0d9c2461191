// Philox4x32-10 (math/philox.h) against the known answers that its authors publish with their library, Random123.
#include "check.h"
#include "math/philox.h"

using seqkern::math::philox;
using seqkern::math::philox_pair;
using seqkern::math::PhiloxPair;
using seqkern::math::PhiloxWords;

namespace {

using Words = PhiloxWords<uint32_t>;

bool equal(const Words& a, const Words& b) {
  return a.at[0] == b.at[0] && a.at[1] == b.at[1] && a.at[2] == b.at[2] && a.at[3] == b.at[3];
}

}  // namespace

int main() {
  CHECK(equal(philox(0, Words{}), {{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}}));
  CHECK(equal(philox(~uint64_t{0}, Words{{0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff}}),
              {{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}}));
  const uint64_t key = 0x299f31d0a4093822;
  const Words counter{{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}};
  CHECK(equal(philox(key, counter), {{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}}));

  // The same counter as numbers of 64 bits: words of low order first.
  const PhiloxPair pair = philox_pair(key, 0x85a308d3243f6a88, 0x0370734413198a2e);
  CHECK(pair.at[0] == 0x94fdccebd16cfe09);
  CHECK(pair.at[1] == 0x24126ea15001e420);
  return seqkern::test::failures();
}
