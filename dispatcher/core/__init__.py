"""Pure rules: no files, sockets, clocks, randomness or async I/O. Data in, data out."""
