"""Reports as documents: on a console, or as one HTML file that needs nothing else: no script, no font, no network.

`document` holds tables, charts and facts as plain data, and `html` writes them; both need the standard library only, so
that a machine with little installed makes a page too. `charts` draws with matplotlib. Nothing here knows of benchmarks.
"""
