"""MLflow runs: a write-ahead event log on disk and the background uploader that delivers it."""
