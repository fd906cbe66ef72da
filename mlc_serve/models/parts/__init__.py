"""The parts that models consist of: their sizes and their weights, without TVM."""
