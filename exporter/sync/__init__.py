"""The poll: what to ask (planner), reading it whole (listing), what to count (transitions), when (poller)."""
