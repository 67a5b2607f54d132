"""A stand-in for the remote API: IAM and the job list over HTTP, with jobs that live and fail."""
