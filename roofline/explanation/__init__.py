"""One number expanded to its formula and inputs: a tree whose values are those that the library computed."""
