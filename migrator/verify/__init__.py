"""The checks on a new state, before it is committed and after."""
