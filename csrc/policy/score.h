// Score: the replacement of the paper "Rudder: Steering Prefetching in Distributed GNN Training using
// LLM Agents" (arXiv:2602.23556) and of MassiveGNN (IEEE CLUSTER 2024, arXiv:2410.22697), kept faithful
// for comparison. A miss never enters the buffer. Instead,
//   - each slot has a score that begins at 1 and is multiplied by 1 - alpha in every minibatch that does
//     not request its row; an empty slot decays likewise;
//   - each row outside the buffer has a score that counts its misses;
//   - a replacement takes every slot whose score is below (1 - alpha)^period, rounded to three decimals,
//     and puts there the rows of highest score from outside, which are fetched for that alone. Rows and
//     slots take their scores along. A replacement comes every `period` minibatches, as long as the
//     controller allows it; with period 0 it comes once for each of the controller's "allow", and the
//     threshold is that of 25 minibatches (the published default). Misses of a minibatch that replaced
//     are not counted. The controller may limit the share of the buffer that one replacement exchanges; the
//     slots of lowest score then give way first.
//
// Two things are choices of ours: rows of the prior's level 0 are never put in (in the papers only nodes
// of the 1-hop halo are: give them a worth and the others none), and `prefill` begins with the rows of
// highest worth instead of empty slots (MassiveGNN: degree).
//
// State: per slot 20 bytes, per row 4, per row ever missed and not in the buffer 44. Time: every slot in
// every minibatch, and a selection among all scores at a replacement.
//
// Not suited to: saving communication. A row fetched for a miss is thrown away and fetched again to be
// kept.
#pragma once

#include <memory>

#include "policy/policy.h"

namespace rudder {

std::unique_ptr<Policy> make_score(const PolicyConfig& config);

}  // namespace rudder
