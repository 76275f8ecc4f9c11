"""Runtimes of others, one module each: `prepare` writes their files from our weights, `load` makes them ready to run.

Each gets the network with BatchNorm folded, a fixed size, its input ready in the layout it likes, and is timed
without the conversion of its result: nothing is charged to a peer that it could do without.
"""
