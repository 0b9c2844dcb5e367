"""The log: its lines, how a run ended, hints, and what errors mean."""
