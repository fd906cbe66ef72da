"""Many servers behind one address: who gets a request, by load and by what servers have cached."""
