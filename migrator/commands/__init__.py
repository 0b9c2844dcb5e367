"""The commands of `migrator`, one file each; `table` joins them."""
