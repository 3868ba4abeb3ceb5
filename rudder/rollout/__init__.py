"""Training jobs as a simulator plays them: what they request, what everything costs, and how it changes.

workload            one job's accesses and costs, as arrays
generate, sampled   jobs that drift, from a seed: neighbour sampling on generated graphs
"""
