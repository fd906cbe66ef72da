"""The parts that models are made of: their sizes and their weights. None of this needs TVM."""
