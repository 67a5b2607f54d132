"""Lives whose jobs wait for nodes, and the verdict on the alerts about waiting."""
