"""What is said to people and programs: the log, how a run ended, hints, what errors mean."""
