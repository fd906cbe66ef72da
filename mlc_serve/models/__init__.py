"""Families of models, one file each, and the table of them; and the modules that TVM compiles."""
