"""Looking through somebody's own data for poison, and measuring on the same data how well that works."""
