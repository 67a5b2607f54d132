"""The durable record of every listed job and of what has been counted."""
