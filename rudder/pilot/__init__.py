"""The shipped pilot: a small model of our own, made from nothing, that writes plans.

vocabulary          its tokens, in training and in the file alike
drill               labelled decisions that need no simulator
batch               labelled decisions as arrays of tokens
model, train        the network, and how it learns (torch)
gather, collect     labelled decisions of simulated workloads; of real runs
recipe              all of it, from nothing to the file
export, check       the GGUF file, and whether llama.cpp computes what torch does

Nothing here is needed to *use* the pilot: for llama.cpp it is a GGUF file like any other.
"""
