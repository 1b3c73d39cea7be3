"""What people look at: a page and pictures, made from the public API alone."""
