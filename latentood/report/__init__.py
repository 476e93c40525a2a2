"""Numbers become something people read: files, tables, figures, MLflow runs."""
