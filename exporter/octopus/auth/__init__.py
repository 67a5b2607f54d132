"""Being allowed to ask the API: tokens, access keys, their renewal, and guarding against a lockout."""
