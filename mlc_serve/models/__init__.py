"""Model architectures as Relax modules, one file each, and the table of them."""
