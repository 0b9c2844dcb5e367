"""The connection that migrations get, and the record of what they do through it."""
