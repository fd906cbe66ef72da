"""Many servers behind one address: who gets a request, by load and by the prefixes that servers have cached."""
