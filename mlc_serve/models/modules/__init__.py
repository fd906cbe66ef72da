"""The modules of models, which TVM compiles. They depend neither on the device nor on how weights are
stored: only the layers that they are made of do.
"""
