"""What files say, without any ledger: one module for each format."""
