"""The bar: what must hold, measured; small in the ordinary run, at full size in `make soak`."""
