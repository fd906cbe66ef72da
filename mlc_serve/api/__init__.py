"""AsyncMLCEngine and MLCEngine: engines as programs use them."""
