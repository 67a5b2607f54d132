"""The ledger in a PostgreSQL database, which several replicas of the exporter share."""
