"""Third-party runtimes, one module each: `prepare` writes their files from our weights, `load` makes them ready to run.

Each gets the network with BatchNorm folded, at a fixed size, with its input already in its preferred layout, and is
timed without the conversion of its result: a peer is not charged for anything avoidable.
"""
