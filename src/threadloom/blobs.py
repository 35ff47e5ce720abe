"""File bytes, behind obstore: a local directory, S3, GCS or Azure."""
