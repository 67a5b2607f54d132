"""The remote API: what it says (wire), asking it (client, limiter) and being allowed to (credentials)."""
