"""Other programs' records of a campaign."""
