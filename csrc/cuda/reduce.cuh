// Reductions over a block: called by all its threads, which must be whole warps; every thread gets the same bits in every run.
#pragma once

#include "cuda/device.cuh"

namespace seqkern::cuda {

// combine(a, b) must equal combine(b, a) bit by bit.
template <class V, class Combine>
SEQKERN_DEVICE V warp_reduce(V value, const Combine& combine) {
  for (int lanes = kWarpSize / 2; lanes > 0; lanes /= 2) value = combine(value, shuffle_xor(value, lanes));
  return value;
}

// identity changes nothing that it is combined with.
template <class V, class Combine>
SEQKERN_DEVICE V block_reduce(V value, V identity, const Combine& combine) {
  SEQKERN_SHARED(V, of_warp, kWarpSize);
  value = warp_reduce(value, combine);
  sync_block();  // whoever still reads the result of an earlier call is done
  if (lane_index() == 0) of_warp[warp_index()] = value;
  sync_block();
  return warp_reduce(lane_index() < block_size() / kWarpSize ? of_warp[lane_index()] : identity, combine);
}

// The sum of each of n values.
template <class V, int n>
SEQKERN_DEVICE Vector<V, n> block_sums(Vector<V, n> values) {
  SEQKERN_SHARED(V, of_warp, n * kWarpSize);
  const auto add = [](V a, V b) { return a + b; };
  for (int i = 0; i < n; ++i) values.at[i] = warp_reduce(values.at[i], add);
  sync_block();
  if (lane_index() == 0)
    for (int i = 0; i < n; ++i) of_warp[i * kWarpSize + warp_index()] = values.at[i];
  sync_block();
  const bool there = lane_index() < block_size() / kWarpSize;
  for (int i = 0; i < n; ++i) values.at[i] = warp_reduce(there ? of_warp[i * kWarpSize + lane_index()] : V(0), add);
  return values;
}

}  // namespace seqkern::cuda
