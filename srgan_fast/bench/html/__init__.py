"""Reports as one HTML file that needs nothing beside it: no script, no font, no network.

`charts`, `svg`, `style` and `page` know nothing of benchmarks and import the standard library only, so that a machine
with nothing else installed makes the same page from plain data, as `gpu_page` does. `inference_page` and
`training_page` put their reports in it.
"""
