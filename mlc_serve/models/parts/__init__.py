"""The parts that models consist of: their sizes and the names of their weights. Nothing here needs TVM."""
