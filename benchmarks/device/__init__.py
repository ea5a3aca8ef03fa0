"""All that is to be known of a GPU while one is at hand: is it right, how fast is it, does it learn.

    python -m benchmarks.device --out FOLDER --data FOLDER_OF_WIKITEXT_2
    python -m benchmarks.device --rehearse

Steps are in the order of their worth (:mod:`benchmarks.device.steps`). Each runs in a process of its own, with an end,
and stores each figure as soon as it has it. One that would not end within the budget is left out. ``--rehearse`` runs
all of them at toy size on the CPU.
"""
