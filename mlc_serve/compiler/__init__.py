"""Architecture + quantization + target -> a library that the Relax VM runs."""
