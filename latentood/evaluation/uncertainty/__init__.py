"""How far metrics and their differences can be trusted: intervals and paired tests."""
