"""Training jobs as a simulator plays them: what they request, what everything costs, and how it changes.

workload            one job's accesses and costs, as arrays
simulator           one trainer on a workload: plans in, evidence out; tries plans on what comes next
drive               a controller through a whole workload, behind the guard
generate, sampled   jobs that drift, from a seed: neighbour sampling on generated graphs
"""
