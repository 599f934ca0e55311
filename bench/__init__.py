"""The workbench: one run, side by side, of everything the README claims about speed and size.

`make bench` measures all of it and writes the figures into the README and `bench/results.json`; `make bench-quick`
takes under two minutes and writes nothing. Nothing here is a test: the figures are of the machine it runs on.
"""
