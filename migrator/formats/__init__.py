"""Where migrations come from and where it is noted which are applied, a format each."""
