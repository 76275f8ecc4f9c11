"""Reports as documents: on the console, or as one self-contained HTML file without scripts or external resources.

`document` holds tables, charts and facts as plain data, `html` renders them; both need only the standard library, so
that minimal installations can write pages, too. `charts` draws with matplotlib. Nothing here depends on benchmarks.
"""
