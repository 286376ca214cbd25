"""Seeded, bounded fuzzers that compare tensorlite with PyTorch. docs/fuzzing.md says what they cover and found.

    PYTHONPATH=tests python -m fuzz ops --seed 7 --cases 100000

Each generator makes one case of a seed and a number, so a failure is made again by naming both. A *comparison* is one
array of tensorlite's, a result or a gradient, held against PyTorch's.

    calls         a call of one function as data: leaves with dtype and memory layout; both libraries run it
    draw          where random shapes, dtypes, layouts and values come from
    compare       when two arrays agree
    differences   what differs on purpose
    functions*    the table of functions and how their arguments are drawn
    ops           generator "ops": one function, with gradients and second derivatives
    graphs        generator "graphs": programs of 2 to 30 steps with reuse, views and changes in place
    indexing      generator "index": keys and assignments
    captured      generator "capture": programs captured and not, equal to the bit
    modules       generator "modules": layers and stacks of them, with copied weights
    optimizers    generator "optim": some steps with random options
    tally         what a run counted
    files         another command, `python -m fuzz.files`: damaged files, each refused or read exactly; damage: the ways
"""
