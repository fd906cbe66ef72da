"""The Python API of an engine: AsyncMLCEngine and MLCEngine."""
